"""The parts of the comparisons that `quality` makes agree with their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.em.quality.discs import in_grid, nearest, patches
from service.em.quality.kernels import narrow_kernels, wide_kernels
from service.em.quality.peaks import peak
from service.em.quality.tuning import SURFACE


def cloud(count: int, dimension: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """A bent sheet, or a bent line, (3, count)."""
    points = np.random.default_rng(3).uniform(size=(3, count))
    points[dimension - 1] = 0.2 * np.sin(3 * points[0])
    points[dimension:] = 0
    return points


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_patch_is_fitted_to_the_nearest_points(dimension: int) -> None:
    points = cloud(300, dimension)
    grid = in_grid(points, dimension)
    some = np.arange(0, 300, 7)
    found = patches(grid, some, dimension)
    at = grid.grid.points[:dimension]
    for k, i in enumerate(some):
        around = at[:, np.argsort(((at - at[:, i : i + 1]) ** 2).sum(0))[: SURFACE.patch]]
        variances, axes = np.linalg.eigh(np.cov(around, bias=True))
        assert abs(axes[:, 0] @ found.normals[:dimension, k]) == pytest.approx(1, abs=1e-9)
        assert found.flat[k] == (variances[0] <= SURFACE.flat * variances[1])


def test_the_nearest_points_are_those_of_all() -> None:
    points = cloud(500, 3)
    grid = in_grid(points, 3)
    places = np.random.default_rng(4).uniform(-2, 3, (3, 50))
    distance, index = nearest(places, grid.grid, math.inf)
    squares = ((places[:, :, None] - grid.grid.points[:, None]) ** 2).sum(0)
    np.testing.assert_allclose(distance, np.sqrt(squares.min(1)))
    np.testing.assert_array_equal(index, squares.argmin(1))
    near, _ = nearest(places, grid.grid, 0.1)
    np.testing.assert_array_equal(near[near < 0.1], distance[distance < 0.1])


def test_kernels_of_a_family_are_those_of_their_widths() -> None:
    squares = np.random.default_rng(5).uniform(0, 4, 200)
    out = np.empty(5)
    for family, ratio in ((wide_kernels, math.sqrt(2)), (narrow_kernels, 2.0)):
        family(squares, len(squares), 0.7, out)
        widths = 0.7 / ratio ** np.arange(5)
        np.testing.assert_allclose(out, np.exp(-squares / (2 * widths[:, None] ** 2)).sum(1), rtol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_a_noisy_curve_stands_out_among_its_neighbours(seed: int) -> None:
    """Its points are nearer to one another than the noise. Another curve has no peak."""
    rng = np.random.default_rng(seed)
    angle = np.outer(rng.uniform(0, 2 * np.pi, 600), [1, 2, 3])
    one, other = (0.3 * (np.sin(angle) @ w[0] + np.cos(angle) @ w[1]) for w in rng.normal(size=(2, 2, 3, 2)))
    noisy = one + 0.012 * rng.normal(size=one.shape)
    source, target, unrelated = (np.vstack([points.T, np.zeros(600)]) for points in (one, noisy, other))
    found = peak(source, target, 2, 0.012, rotates=True)
    against = peak(source, unrelated, 2, 0.012, rotates=True)
    assert found is not None
    assert against is not None
    assert found.evidence > 0.5 > 0.1 > against.evidence
    assert found.height > against.height
    assert min(found.overlap) > 0.95 > 0.5 > max(against.overlap)
