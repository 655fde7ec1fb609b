"""Laws of the settings: JSON preserves them, and an error names the invalid one."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from training.config import RECIPES, ConfigError, GanConfig


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_json_preserves_settings(recipe: str) -> None:
    assert GanConfig.from_json(json.loads(json.dumps(RECIPES[recipe].to_json()))) == RECIPES[recipe]


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_recipe_has_its_own_name(recipe: str) -> None:
    assert RECIPES[recipe].recipe == recipe


def test_the_minimax_recipe_is_the_original_objective_without_additions() -> None:
    minimax = RECIPES["minimax"]
    assert (minimax.loss, minimax.schedule, minimax.generator_norm) == ("minimax", "constant", "none")
    assert (minimax.r1_gamma, minimax.r2_gamma, minimax.ema_decay, minimax.translation, minimax.warmup_steps) == (
        0,
    ) * 5
    assert (minimax.batch_size, minimax.epochs) == (64, 10)
    assert (minimax.learning_rate, minimax.betas) == (2e-4, (0.5, 0.999))


def test_an_unknown_setting_is_refused_with_the_known_names() -> None:
    with pytest.raises(ConfigError, match="unknown settings learning_rte; known are batch_size, betas"):
        GanConfig.from_json(RECIPES["default"].to_json() | {"learning_rte": 1})


def test_a_missing_setting_is_refused_by_name() -> None:
    fields = RECIPES["default"].to_json()
    del fields["seed"]
    with pytest.raises(ConfigError, match="missing settings seed"):
        GanConfig.from_json(fields)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", "hinge"),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", "fast"),
        ("betas", (0.5, 1.0)),
        ("betas", (0.5,)),
        ("schedule", "linear"),
        ("r1_gamma", -1.0),
        ("r2_gamma", float("inf")),
        ("feature_weight", -1.0),
        ("penalty_every", 0),
        ("translation", -1),
        ("warmup_steps", 0.5),
        ("held_out", -1),
        ("hold", 1.0),
        ("late_batches", 0),
        ("generator_norm", "layer"),
        ("ema_decay", 1.0),
        ("batch_size", 0),
        ("batch_size", 1.5),
        ("epochs", True),
        ("seed", -1),
        ("seed", 2**32),
        ("precision", "float16"),
        ("channels_last", 1),
        ("threads", -1),
        ("device", "tpu"),
        ("save_every", 0),
        ("log_every", 0),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        dataclasses.replace(RECIPES["default"], **{name: value})
