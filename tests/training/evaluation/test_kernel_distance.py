"""The kernel distance in cases with a closed form; it is unbiased."""

from __future__ import annotations

import pytest
import torch

from training.evaluation import kernel_distance as module
from training.evaluation.kernel_distance import kernel_distance


def test_it_equals_the_formula_summed_over_pairs() -> None:
    a, b = (torch.randn(n, 3, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (5, 7))

    def kernel(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((x @ y / 3 + 1) ** 3)

    within_a = sum(kernel(a[i], a[j]) for i in range(5) for j in range(5) if i != j) / 20
    within_b = sum(kernel(b[i], b[j]) for i in range(7) for j in range(7) if i != j) / 42
    between = sum(kernel(x, y) for x in a for y in b) / 35
    assert kernel_distance(a, b) == pytest.approx(within_a + within_b - 2 * between)


def test_its_mean_for_sets_from_one_distribution_is_0() -> None:
    randomness = torch.Generator().manual_seed(1)
    values = torch.tensor(
        [kernel_distance(*torch.randn(2, 40, 4, generator=randomness, dtype=torch.float64)) for _ in range(400)]
    )
    error = values.std() / 400**0.5
    assert values.min() < 0 < values.max()
    assert abs(values.mean()) < 3 * error


def test_two_sets_of_equal_points_have_a_closed_form() -> None:
    # With all points of one set at 0 and all of the other at x: k(x, x) + k(0, 0) - 2 k(0, x) = (|x|² / D + 1)³ - 1.
    a, b = torch.zeros(10, 4), torch.ones(20, 4)
    assert kernel_distance(a, b) == pytest.approx(2.0**3 - 1)


def test_the_size_of_blocks_does_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = torch.randn(2, 50, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    whole = kernel_distance(a, b)
    monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    assert kernel_distance(a, b) == pytest.approx(whole)
