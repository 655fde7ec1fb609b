"""Laws of the averaged weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.learning import ema


def scalar(value: float) -> nn.Linear:
    module = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(module.weight, value)
    return module


def weight(decay: float) -> torch.Tensor:
    return torch.tensor(1 - decay, dtype=torch.float64)


def test_the_average_approaches_a_constant_geometrically() -> None:
    average, module = scalar(5.0), scalar(1.0)
    for _ in range(20):
        ema.update(average, module, weight(0.9))
    assert average.weight.item() == pytest.approx(1 + 4 * 0.9**20)
    assert module.weight.item() == 1.0


def test_the_average_is_the_weighted_sum_of_all_earlier_weights() -> None:
    values, decay, average = [2.0, -1.0, 4.0], 0.75, scalar(10.0)
    for value in values:
        ema.update(average, scalar(value), weight(decay))
    expected = decay**3 * 10 + sum((1 - decay) * decay ** (2 - i) * value for i, value in enumerate(values))
    assert average.weight.item() == pytest.approx(expected)


def test_a_decay_of_0_copies_the_weights_bit_for_bit() -> None:
    average, module = scalar(5.0), scalar(1 / 3)
    ema.update(average, module, weight(ema.decay_at(0, 0.0)))
    assert torch.equal(average.weight, module.weight)


def test_the_decay_rises_from_a_tenth_to_its_value_and_never_falls() -> None:
    decays = [ema.decay_at(step, 0.9995) for step in range(30_000)]
    assert decays[0] == 0.1
    assert decays == sorted(decays)
    assert decays[-1] == 0.9995


def test_without_a_rise_the_decay_is_its_value_from_the_first_step() -> None:
    assert {ema.decay_at(step, 0.9995, rise=False) for step in range(100)} == {0.9995}
