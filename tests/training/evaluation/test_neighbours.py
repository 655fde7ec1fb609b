"""Laws of nearest neighbours, and of the four metrics that count them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.evaluation import neighbours
from training.evaluation.fidelity import density_coverage, precision_recall
from training.evaluation.neighbours import balls, count_around, lie_inside, nearest


def points(count: int, seed: int, dimension: int = 4) -> Tensor:
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [7, 500])
def test_distances_radii_and_counts_are_those_of_all_pairs_in_blocks_of_any_size(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", rows)
    a, b = points(30, 0), points(40, 1)
    squares = torch.cdist(a, b).square()
    torch.testing.assert_close(nearest(a, b), squares.min(1).values)
    own = torch.cdist(b, b).square()
    # The nearest of all is the point itself.
    torch.testing.assert_close(balls(b, 3).squared_radii, own.sort(1).values[:, 3], rtol=1e-4, atol=1e-5)
    inside = squares <= own.sort(1).values[:, 3]
    assert torch.equal(count_around(a, balls(b, 3)), inside.sum(1))
    assert torch.equal(lie_inside(a, balls(b, 3)), inside.any(1))


def test_a_set_has_precision_recall_and_coverage_1_against_itself() -> None:
    real = points(200, 2)
    assert precision_recall(balls(real, 3), balls(real, 3)) == (1, 1)
    assert density_coverage(balls(real, 5), real).coverage == 1


def test_sets_far_apart_have_nothing_in_common() -> None:
    real, samples = points(100, 3), points(100, 4) + 100
    assert precision_recall(balls(real, 3), balls(samples, 3)) == (0, 0)
    assert density_coverage(balls(real, 5), samples) == (0, 0)


def test_a_part_of_the_real_images_has_all_precision_and_part_of_the_recall() -> None:
    # Two clusters far apart, of which the samples are one.
    real = torch.cat([points(100, 5), points(100, 6) + 100])
    samples = points(100, 7)
    precision, recall = precision_recall(balls(real, 3), balls(samples, 3))
    assert precision > 0.9
    assert 0.4 < recall <= 0.5
    assert density_coverage(balls(real, 5), samples).coverage <= 0.5


def test_repeated_images_cover_little_and_recall_nothing() -> None:
    real = points(500, 8)
    samples = points(5, 9).repeat(100, 1)
    assert density_coverage(balls(real, 5), samples).coverage < 0.1
    assert precision_recall(balls(real, 3), balls(samples, 3)).recall < 0.05


def test_real_against_real_has_a_density_of_1_and_a_coverage_of_1_minus_2_to_the_minus_k() -> None:
    density, coverage = density_coverage(balls(points(2000, 10), 5), points(2000, 11))
    assert density == pytest.approx(1, abs=0.05)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.02)
