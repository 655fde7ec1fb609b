"""Laws of nearest neighbours, and of the four metrics based on them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.evaluation import neighbours
from training.evaluation.fidelity import density_coverage, precision_recall
from training.evaluation.neighbours import balls, count_balls, lie_inside, nearest_squared_distances


def points(count: int, seed: int, dimension: int = 4) -> Tensor:
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed))


def exact_squares(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances (N, M) between points (N, D) and (M, D), float64, from differences."""
    return (a.double()[:, None] - b.double()[None]).square().sum(-1)


@pytest.mark.parametrize("rows", [7, 500])
def test_distances_radii_and_counts_equal_those_of_all_pairs_for_any_block_size(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", rows)
    a, b = points(30, 0), points(40, 1)
    squares = exact_squares(a, b)
    torch.testing.assert_close(nearest_squared_distances(a, b).double(), squares.min(1).values, rtol=1e-4, atol=1e-5)
    # Column 0 of the sorted distances is the point itself.
    radii = exact_squares(b, b).sort(1).values[:, 3]
    # Rounding must not decide whether a point lies in a ball, so that counts can be compared exactly.
    assert (squares - radii).abs().min() > 1e-4
    torch.testing.assert_close(balls(b, 3).squared_radii.double(), radii, rtol=1e-4, atol=1e-5)
    inside = squares <= radii
    assert torch.equal(count_balls(a, balls(b, 3)), inside.sum(1))
    assert torch.equal(lie_inside(a, balls(b, 3)), inside.any(1))


def test_a_set_has_precision_recall_and_coverage_1_against_itself() -> None:
    real = points(200, 2)
    assert precision_recall(balls(real, 3), balls(real, 3)) == (1, 1)
    assert density_coverage(balls(real, 5), real).coverage == 1


def test_distant_sets_have_all_four_metrics_0() -> None:
    real, samples = points(100, 3), points(100, 4) + 100
    assert precision_recall(balls(real, 3), balls(samples, 3)) == (0, 0)
    assert density_coverage(balls(real, 5), samples) == (0, 0)


def test_samples_of_one_of_two_clusters_have_full_precision_and_half_the_recall() -> None:
    # Two distant clusters; the samples are distributed like the first.
    real = torch.cat([points(100, 5), points(100, 6) + 100])
    samples = points(100, 7)
    precision, recall = precision_recall(balls(real, 3), balls(samples, 3))
    assert precision > 0.9
    assert 0.4 < recall <= 0.5
    assert density_coverage(balls(real, 5), samples).coverage <= 0.5


def test_repeated_images_have_low_coverage_and_nearly_no_recall() -> None:
    real = points(500, 8)
    samples = points(5, 9).repeat(100, 1)
    assert density_coverage(balls(real, 5), samples).coverage < 0.1
    assert precision_recall(balls(real, 3), balls(samples, 3)).recall < 0.05


def test_real_images_have_a_density_of_1_and_a_coverage_of_1_minus_2_to_the_minus_k() -> None:
    density, coverage = density_coverage(balls(points(2000, 10), 5), points(2000, 11))
    assert density == pytest.approx(1, abs=0.05)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.02)
