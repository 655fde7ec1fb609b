"""Averaged weights: an exponential moving average of the generator's parameters."""

from __future__ import annotations

import torch
from torch import nn


def decay_at(step: int, decay: float) -> float:
    """The decay of the average at `step` (from 0): min(decay, (1 + step) / (10 + step)).

    The warm-up lets early averages forget the random weights that they began with.
    """
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update(averaged: nn.Module, module: nn.Module, decay: float) -> None:
    """averaged <- decay · averaged + (1 - decay) · module, in place, parameter by parameter."""
    for average, parameter in zip(averaged.parameters(), module.parameters(), strict=True):
        average.lerp_(parameter, 1 - decay)
