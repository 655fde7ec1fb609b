"""The start `auto`: right for any shift under a bijection, and good where the clouds only overlap."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from service.em.batched.distances import workspace
from service.em.batched.padding import pack
from service.em.batched.starts import Start, start
from service.em.checks import check
from service.em.problem import Problem
from service.em.register import register
from tests.problems.poses import go_on
from tests.problems.registration import Instance, bijection, cropped, overlapping
from tests.problems.tight import tight


def started(problem: Problem) -> tuple[NDArray[np.float64], Start]:
    """T (D,) in the caller's coordinates where the iteration starts, and the start itself."""
    group = pack([check(problem)])
    found = start(group, [check(problem)], workspace(), go_on)
    return group.to_original(found.translation)[0].numpy(), found


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
@pytest.mark.parametrize("shift", [0.0, 0.4, 30.0, 1e6])
@pytest.mark.parametrize("given", [None, 1e-4, 0.02, 0.5])
def test_a_noisy_bijection_is_found_at_any_shift_and_any_sigma(
    dimension: int, shift: float, given: float | None
) -> None:
    for seed in range(3):
        instance = bijection(80, dimension, sigma=0.01, shift=shift, seed=seed)
        outcome = register(tight(instance.source, instance.target, sigma=given))
        # Four standard errors, and what soft or ambiguous responsibilities add.
        bound = 4 * 0.01 * math.sqrt(dimension / 80) + 0.01 * max(given or 0, 0.1)
        assert np.linalg.norm(outcome.translation - instance.translation) < bound
        assert outcome.start in ("centroid", "vote")


def test_under_heavy_noise_most_bijections_start_at_their_centroids() -> None:
    taken = []
    for seed in range(100):
        instance = bijection(100, 2, sigma=0.1, shift=7.0, seed=seed)
        translation, found = started(tight(instance.source, instance.target))
        taken.append(found.name == ["centroid"])
        if taken[-1]:
            np.testing.assert_allclose(translation, instance.target.mean(0) - instance.source.mean(0))
    # Each other candidate must beat the centroids by two standard errors; of 200 problems 79 % keep the centroids.
    assert np.mean(taken) > 0.7


OVERLAPS = {
    "superset": lambda d, seed: overlapping(0, 60, 60, d, sigma=0.003, shift=1e6, seed=seed),
    "subset": lambda d, seed: overlapping(60, 60, 0, d, sigma=0.003, shift=0.5, seed=seed),
    "outliers": lambda d, seed: overlapping(18, 60, 18, d, sigma=0.003, shift=50.0, seed=seed),
    "seventy per cent": lambda d, seed: cropped(90, d, 0.7, sigma=0.003, shift=3.0, seed=seed),
    "large superset": lambda d, seed: overlapping(0, 300, 600, d, sigma=0.001, shift=3.0, seed=seed),
}


@pytest.mark.parametrize("kind", OVERLAPS)
@pytest.mark.parametrize("dimension", [2, 3, 5])
@pytest.mark.parametrize("given", [None, 0.01])
def test_partial_overlap_starts_close_to_the_truth(kind: str, dimension: int, given: float | None) -> None:
    for seed in range(3):
        instance: Instance = OVERLAPS[kind](dimension, seed)
        translation, found = started(tight(instance.source, instance.target, sigma=given))
        squares = np.square(instance.target[:, None] - instance.target).sum(-1)
        np.fill_diagonal(squares, np.inf)
        spacing = math.sqrt(np.median(squares.min(1)))
        assert np.linalg.norm(translation - instance.translation) < 0.15 * spacing, found.name
        assert found.name in (["vote"], ["anneal"], ["identity"], ["centroid"])


def test_all_of_a_superset_registers_to_the_truth() -> None:
    instance = overlapping(0, 60, 60, 3, sigma=0.003, shift=1e6)
    for sigma in (None, 0.005):
        outcome = register(tight(instance.source, instance.target, sigma=sigma))
        assert np.linalg.norm(outcome.translation - instance.translation) < 0.003
        assert np.array_equal(outcome.matching, instance.partner)


def test_a_far_outlier_does_not_decide() -> None:
    instance = bijection(60, 2, sigma=0.003, shift=2.0)
    target = np.concatenate([instance.target, np.full((1, 2), 1e6)])
    translation, _ = started(tight(instance.source, target))
    assert np.linalg.norm(translation - instance.translation) < 0.01


def test_what_already_lies_in_place_stays() -> None:
    instance = overlapping(30, 30, 60, 2, shift=0.0)
    translation, _ = started(tight(instance.source, instance.target, sigma=0.001))
    assert np.linalg.norm(translation) < 0.001


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 5), (5, 1), (3, 2), (4, 4)])
def test_hardly_any_points_have_a_start(n: int, m: int) -> None:
    for points in (np.zeros((5, 2)), bijection(5, 2).source):
        translation, found = started(tight(points[:n], points[:m] + 1))
        assert np.isfinite(translation).all()
        assert (found.sigma > 0).all()


def test_named_starts() -> None:
    instance = bijection(20, 3, shift=5.0)
    problem = tight(instance.source, instance.target, sigma=1.0)
    offset = np.array([1.0, -2.0, 3.0])
    for init, expected in (
        ("identity", np.zeros(3)),
        ("centroid", instance.target.mean(0) - instance.source.mean(0)),
        (offset, offset),
    ):
        translation, found = started(problem._replace(init=init))  # type: ignore[arg-type]
        np.testing.assert_allclose(translation, expected, rtol=0, atol=1e-14)
        assert found.name == ["given" if init is offset else init]
