"""Annealing from wide to narrow kernels: its end and its score."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from service.em.coordinates import Frame, frame
from service.em.kinds import RIGID, SIMILARITY
from service.em.problem import Pose
from service.em.starting.annealing import Annealed, anneal
from service.em.starting.pyramid import Pyramid
from service.em.starting.tuning import ANNEALING
from tests.problems.poses import FAMILIES, Posed, cloud, go_on, posed, rotation

Float64 = NDArray[np.float64]


def framed(problem: Posed, *, one_unit: bool = True) -> tuple[Frame, Pyramid, Float64]:
    """The clouds' frame, their pyramid, and the true transform (D, D + 1) in the frame."""
    points = frame(problem.source, problem.target, one_unit=one_unit)
    truth = points.from_caller(Pose(problem.scale * problem.rotation, problem.translation))
    return points, Pyramid(points), truth


def nudged(transform: Float64, angle: float, seed: int = 0) -> Float64:
    """The transform (3, 4) and a rotation by `angle` degrees after it."""
    return rotation(3, math.radians(angle), np.random.default_rng(seed)) @ transform


def annealed(problem: Posed, angle: float, spacings: float) -> tuple[Annealed, Float64]:
    """The end of annealing from a start `angle` degrees off the truth, and the truth."""
    points, pyramid, truth = framed(problem)
    return anneal(pyramid, RIGID, nudged(truth, angle), spacings * pyramid.spacing, points.floor, poll=go_on), truth


@pytest.mark.parametrize("family", FAMILIES)
def test_a_start_a_few_degrees_off_is_annealed_to_the_truth(family: str) -> None:
    end, truth = annealed(posed(family, 200, seed=1), 8, 2.0)
    assert end.transform == pytest.approx(truth, abs=0.02)


def test_outliers_in_both_clouds_do_not_pull_the_pose_away() -> None:
    end, truth = annealed(posed("cube", 200, outliers=0.5, seed=2), 3, 0.8)
    assert end.transform == pytest.approx(truth, abs=0.02)
    assert 0.5 < end.inliers < 0.9


def test_annealing_of_a_similarity_finds_its_scale() -> None:
    points, pyramid, truth = framed(posed("cube", 200, scale=1.7, seed=3), one_unit=False)
    end = anneal(pyramid, SIMILARITY, 0.95 * nudged(truth, 3), 2 * pyramid.spacing, points.floor, poll=go_on)
    assert end.transform == pytest.approx(truth, abs=0.03)


def test_the_width_ends_near_the_noise_and_never_below_the_last() -> None:
    problem = posed("cube", 200, noise=0.01, seed=4)
    points, pyramid, truth = framed(problem)
    end = anneal(pyramid, RIGID, truth, pyramid.spacing, points.floor, poll=go_on)
    assert 0.5 < end.sigma * points.target_unit / 0.01 < 2
    assert (
        anneal(pyramid, RIGID, truth, pyramid.spacing, 0.3 * pyramid.spacing, poll=go_on).sigma >= 0.3 * pyramid.spacing
    )


def test_the_truth_scores_far_above_a_pose_that_matches_the_outline_only() -> None:
    problem = posed("cube", 300, angle=0.0, seed=5)
    points, pyramid, truth = framed(problem)
    half_turn = truth * [[-1, -1, 1, 1], [-1, -1, 1, 1], [1, 1, 1, 1]]
    right, wrong = (
        anneal(pyramid, RIGID, pose, pyramid.spacing, points.floor, poll=go_on) for pose in (truth, half_turn)
    )
    assert right.score > 4 * max(wrong.score, 0.25)


def test_clouds_with_a_common_outline_but_no_common_point_have_a_score_near_zero() -> None:
    rng = np.random.default_rng(6)
    source, target = (cloud("cube", 400, 3, rng) for _ in range(2))
    points = frame(source, target, one_unit=True)
    pyramid = Pyramid(points)
    end = anneal(
        pyramid, RIGID, points.from_caller(Pose(np.eye(3), np.zeros(3))), pyramid.spacing, points.floor, poll=go_on
    )
    assert end.score < 0.15


def test_a_pose_without_targets_in_reach_has_no_score() -> None:
    points, pyramid, truth = framed(posed("cube", 50, seed=7))
    far = truth + [[0, 0, 0, 100.0]] * np.ones((3, 1))
    end = anneal(pyramid, RIGID, far, pyramid.spacing, points.floor, poll=go_on)
    assert end.score == -math.inf
    assert end.transform == pytest.approx(far)


def test_the_same_clouds_give_the_same_answer() -> None:
    problem = posed("shell", 150, seed=8)
    one, other = (annealed(problem, 5, 2.0)[0] for _ in range(2))
    assert np.array_equal(one.transform, other.transform)
    assert one.score == other.score


def test_subsets_are_nested() -> None:
    _, pyramid, _ = framed(posed("cube", 300, seed=9))
    assert np.array_equal(pyramid.source(200)[:, :50], pyramid.source(50))
    assert np.array_equal(pyramid.target(200)[:, :50], pyramid.target(50))


def test_narrow_kernels_use_more_targets_than_wide_ones_up_to_the_limit() -> None:
    points = cloud("cube", 2 * ANNEALING.most_targets, 3, np.random.default_rng(10))
    pyramid = Pyramid(frame(points, points, one_unit=True))
    wide, narrow = (pyramid.grid(width).points.shape[1] for width in (1.0, 1e-3))
    assert wide < narrow <= ANNEALING.most_targets


def test_the_spacing_is_the_distance_between_neighbours() -> None:
    lattice = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), -1).reshape(-1, 3)
    points = frame(lattice, lattice, one_unit=True)
    assert Pyramid(points).spacing * points.target_unit == pytest.approx(1)
