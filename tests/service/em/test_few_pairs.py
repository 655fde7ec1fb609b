"""Few exact pairs among points without a partner are found, and chance is not taken for them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.em import slices
from service.em.choices import Transform
from service.em.coordinates import frame
from service.em.kernel.coincidence import needed_pairs
from service.em.kinds import RIGID, SIMILARITY
from service.em.problem import Problem
from service.em.register import register
from service.em.starting.exhaustive import least_coincidence
from service.em.starting.starts import PoseStart
from tests.problems.scenes.scene import Float64, any_rotation


def _turn(dimension: int, rng: np.random.Generator) -> Float64:
    if dimension == 3:
        return any_rotation(rng)
    angle = rng.uniform(0, 6)
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _partners(
    count: int, pairs: int, dimension: int, seed: int, *, noise: float = 0.0, scale: float = 1.0
) -> tuple[Float64, Float64, Float64]:
    """Points of which the first `pairs` have a partner under a matrix, which is the last array.

    `noise` is in units of the extent.
    """
    rng = np.random.default_rng([seed, count, pairs, dimension])
    source, target = rng.uniform(-100, 100, (count, dimension)), rng.uniform(-100, 100, (count + 4, dimension))
    matrix = scale * _turn(dimension, rng)
    target *= scale
    target[:pairs] = source[:pairs] @ matrix.T + 200 * scale * noise * rng.normal(size=(pairs, dimension))
    return source, target + rng.uniform(-50, 50, dimension), matrix


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize(("count", "pairs"), [(10, 5), (10, 8), (16, 6), (30, 7)])
@pytest.mark.parametrize(("transform", "scale"), [("rigid", 1.0), ("similarity", 1.7)])
def test_few_exact_pairs_are_always_found(
    dimension: int, count: int, pairs: int, transform: Transform, scale: float
) -> None:
    for seed in range(3):
        source, target, matrix = _partners(count, pairs, dimension, seed, scale=scale)
        found = register(Problem(source, target, transform=transform))
        assert found.linear == pytest.approx(matrix, abs=1e-4)
        assert found.matching[:pairs].tolist() == list(range(pairs))


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize(("transform", "scale"), [("rigid", 1.0), ("similarity", 0.6)])
def test_few_noisy_pairs_are_found(dimension: int, transform: Transform, scale: float) -> None:
    for seed in range(4):
        source, target, matrix = _partners(14, 7, dimension, seed, noise=1e-3, scale=scale)
        found = register(Problem(source, target, transform=transform))
        assert found.linear == pytest.approx(matrix, abs=0.02)


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("kind", [RIGID, SIMILARITY])
def test_unrelated_points_keep_their_start(dimension: int, kind: int) -> None:
    rng = np.random.default_rng(dimension)
    start = PoseStart(np.eye(dimension, dimension + 1), 1.0, 0.0, "identity", [])
    for _ in range(40):
        points = frame(*rng.uniform(size=(2, 12, dimension)), one_unit=kind == RIGID)
        assert least_coincidence(points, kind, start) is start


def test_a_start_that_matches_nearly_all_points_is_kept() -> None:
    source, target, matrix = _partners(20, 20, 3, 1, noise=3e-3)
    points = frame(source, target[:20], one_unit=True)
    shift = target[0] - matrix @ source[0]
    unit, centre = points.source_unit, points.source_centre
    at = (matrix @ centre + shift - points.target_centre) / unit
    start = PoseStart(np.hstack([matrix, at[:, None]]), 0.01, 1.0, "given", [])
    assert least_coincidence(points, RIGID, start) is start


def test_the_search_through_all_triangles_does_not_depend_on_its_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target, _ = _partners(46, 6, 3, 2)
    points = frame(source, target, one_unit=False)
    start = PoseStart(np.eye(3, 4), 1.0, 0.0, "identity", [])
    whole = least_coincidence(points, SIMILARITY, start)
    assert whole is not start
    monkeypatch.setattr(slices, "SLICE_PAIRS", 100_000)
    turns: list[int] = []
    with slices.sliced(lambda: turns.append(1)):
        found = least_coincidence(points, SIMILARITY, start)
    assert len(turns) > 20
    np.testing.assert_array_equal(found.transform, whole.transform)


def test_more_pairs_are_needed_the_noisier_they_are_and_for_a_scale() -> None:
    needed = [needed_pairs(20, 20, 2, sigma, 1.0, scales=False) for sigma in (1e-8, 1e-4, 1e-2, 1.0)]
    assert needed == sorted(needed)
    assert needed[0] == 3
    assert needed[-1] == 21
    for sigma in (1e-4, 1e-3, 3e-3):
        for dimension in (2, 3):
            rigid, similar = (needed_pairs(20, 20, dimension, sigma, 1.0, scales=scales) for scales in (False, True))
            assert dimension < rigid <= similar


def test_pairs_of_random_clouds_are_no_evidence() -> None:
    """The best of many random poses puts fewer points next to targets than are needed, at every distance."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        source, target = rng.uniform(0, 1, (2, 20, 2))
        for sigma in 1e-4, 1e-3, 1e-2:
            most = 0
            for angle in rng.uniform(0, 2 * math.pi, 300):
                turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
                moved = source @ turn.T
                moved += target[rng.integers(20)] - moved[rng.integers(20)]
                off = ((moved[:, None] - target) ** 2).sum(2).min(1)
                most = max(most, int((off < (3 * sigma) ** 2).sum()))
            assert most < needed_pairs(20, 20, 2, sigma, 1.0, scales=False)
