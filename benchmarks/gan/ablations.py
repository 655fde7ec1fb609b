"""Variants of the default recipe. Each changes one setting, or two that belong together."""

from __future__ import annotations

import dataclasses
from typing import Any

from training.config import RECIPES, GanConfig

# The changed settings of each variant, in the order of the table.
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "minimax": {"loss": "minimax"},
    "relativistic, R1 and R2": {"loss": "relativistic", "r2_gamma": 10.0},
    "no penalty": {"r1_gamma": 0.0},
    "R1 of 1": {"r1_gamma": 1.0},
    "R1 of 30": {"r1_gamma": 30.0},
    "no normalisation": {"generator_norm": "none"},
    "no normalisation, rate 0.0005": {"generator_norm": "none", "learning_rate": 5e-4},
    "rate 0.001": {"learning_rate": 1e-3},
    "rate 0.004": {"learning_rate": 4e-3},
    "constant rate": {"schedule": "constant"},
    "no averaging": {"ema_decay": 0.0},
    "constant rate, no averaging": {"schedule": "constant", "ema_decay": 0.0},
    "no translation": {"translation": 0},
    "translation by 2": {"translation": 2},
    "batches of 128": {"batch_size": 128},
    "batches of 32": {"batch_size": 32},
    "constant rate, batches 4 times as large in the second half": {"schedule": "constant", "late_batches": 4},
}


def variant(name: str, epochs: int, seed: int = 0) -> GanConfig:
    """The settings of the variant `name`. Raises KeyError if there is none."""
    return dataclasses.replace(RECIPES["default"], epochs=epochs, seed=seed, **VARIANTS[name])
