"""The exponential moving average of the generator's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from service.gan.networks import Generator
from training.learning.normalised import NormalisedGenerator
from training.learning.train_state import TrainState


def decay_at(step: int, decay: float, rise: bool = True) -> float:
    """The decay of the average at `step`, counted from 0: min(decay, (1 + step) / (10 + step)).

    Without `rise` it is always `decay`. The rise removes the initial random weights from the average.
    """
    return min(decay, (1 + step) / (10 + step)) if rise else decay


@torch.no_grad()
def update(averaged: nn.Module, module: nn.Module, weight: Tensor) -> None:
    """averaged <- (1 - weight) · averaged + weight · module, in place; `weight` () is 1 - decay."""
    for average, parameter in zip(averaged.parameters(), module.parameters(), strict=True):
        average.lerp_(parameter, weight)


def published_generator(state: TrainState) -> Generator:
    """The averaged generator in the published architecture, float32, with its normalisation folded into the weights."""
    averaged = state.averaged
    return averaged.fold() if isinstance(averaged, NormalisedGenerator) else averaged
