"""The search for a pose: any rotation, outliers, partial overlap, and symmetric shapes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from service.em.coordinates import Frame, frame
from service.em.kinds import RIGID, SIMILARITY
from service.em.register import register
from service.em.starting.annealing import anneal
from service.em.starting.global_start import find_start, rotations
from service.em.starting.pyramid import Pyramid
from service.em.starting.starts import PoseStart
from tests.problems.poses import FAMILIES, errors, go_on, posed
from tests.problems.tight import tight

Float64 = NDArray[np.float64]


def turn(dimension: int, angle: float, rng: np.random.Generator) -> Float64:
    """A rotation by `angle` (rad) about a random axis."""
    if dimension == 2:
        return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    x, y, z = (axis := rng.normal(size=3)) / np.linalg.norm(axis)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + math.sin(angle) * skew + (1 - math.cos(angle)) * skew @ skew)


def angle_between(one: Float64, other: Float64) -> float:
    """The angle (degrees) of the rotation from one to the other."""
    cosine = np.trace(one.T @ other) / 2 if len(one) == 2 else (np.trace(one.T @ other) - 1) / 2
    return math.degrees(math.acos(min(max(float(cosine), -1.0), 1.0)))


def registered(source: Float64, target: Float64) -> Float64:
    """The rotation found with `init` auto."""
    outcome = register(tight(source, target, transform="rigid"))
    assert outcome.linear is not None
    return outcome.linear


def gap(points: Frame, found: PoseStart) -> float:
    """The nats for each source point by which the runner-up scores lower at the final width; inf without one."""
    if found.runner_up is None:
        return math.inf
    pyramid = Pyramid(points)
    best, other = (
        anneal(pyramid, RIGID, pose, found.sigma, found.sigma, poll=go_on).score
        for pose in (found.transform, found.runner_up)
    )
    return best - other


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_any_rotation_is_found(dimension: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = rng.random((150, dimension))
    truth = turn(dimension, rng.uniform(0, math.pi), rng)
    target = source @ truth.T + 7 + 0.01 * rng.normal(size=source.shape)
    assert angle_between(registered(source, rng.permutation(target)), truth) < 1


@pytest.mark.parametrize("seed", range(4))
def test_half_as_many_outliers_as_points_in_both_clouds_do_not_hide_the_pose(seed: int) -> None:
    rng = np.random.default_rng(10 + seed)
    source = rng.normal(size=(150, 3))
    truth = turn(3, rng.uniform(0, math.pi), rng)
    target = source @ truth.T - 3 + 0.03 * rng.normal(size=source.shape)
    source, target = (
        np.concatenate([cloud, rng.uniform(cloud.min(0), cloud.max(0), (75, 3))]) for cloud in (source, target)
    )
    assert angle_between(registered(source, rng.permutation(target)), truth) < 1


@pytest.mark.parametrize("seed", range(4))
def test_clouds_that_share_half_of_their_points_are_registered(seed: int) -> None:
    rng = np.random.default_rng(20 + seed)
    points = rng.random((300, 3))
    points = points[np.argsort(points @ rng.normal(size=3))]
    truth = turn(3, math.radians(rng.uniform(0, 45)), rng)
    source, target = points[:200], points[100:] @ truth.T + 1 + 0.005 * rng.normal(size=(200, 3))
    assert angle_between(registered(rng.permutation(source), target), truth) < 1


def test_the_corners_of_a_square_have_other_poses_with_the_same_score() -> None:
    square = np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    points = frame(square, square + 5, one_unit=True)
    found = find_start(points, Pyramid(points), RIGID, go_on)
    assert gap(points, found) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_rotations_tried_leave_no_gap(dimension: int) -> None:
    grid, rng = rotations(dimension, 700 if dimension == 3 else 90), np.random.default_rng(0)
    farthest = 0.0
    for _ in range(50):
        truth = turn(dimension, rng.uniform(0, math.pi), rng)
        farthest = max(farthest, min(angle_between(one, truth) for one in grid))
    assert farthest < (25 if dimension == 3 else 2.1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("overlap", "outliers"), [(0.6, 0.0), (1.0, 0.5)])
def test_the_pose_of_every_family_of_clouds_is_found_with_cropping_and_with_outliers(
    family: str, overlap: float, outliers: float
) -> None:
    problem = posed(family, 120, overlap=overlap, outliers=outliers, noise=0.004, seed=30)
    points = frame(problem.source, problem.target, one_unit=True)
    found = points.to_caller(find_start(points, Pyramid(points), RIGID, go_on).transform)
    angle, distance = errors(problem, found.linear, found.translation)
    assert angle < 3
    assert distance < 0.03


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_the_scale_of_a_similarity_is_found_with_its_pose(dimension: int, scale: float) -> None:
    problem = posed("cube", 120, dimension=dimension, scale=scale, seed=31)
    points = frame(problem.source, problem.target, one_unit=False)
    found = points.to_caller(find_start(points, Pyramid(points), SIMILARITY, go_on).transform)
    assert errors(problem, found.linear, found.translation)[0] < 3
    assert abs(np.linalg.det(found.linear)) ** (1 / dimension) == pytest.approx(scale, rel=0.03)


def test_the_gap_of_a_cloud_without_symmetry_is_wide() -> None:
    problem = posed("cube", 120, seed=32)
    points = frame(problem.source, problem.target, one_unit=True)
    found = find_start(points, Pyramid(points), RIGID, go_on)
    assert gap(points, found) > 1


def test_the_start_is_the_same_every_time() -> None:
    problem = posed("curve", 120, overlap=0.7, seed=33)
    points = frame(problem.source, problem.target, one_unit=True)
    one, other = (find_start(points, Pyramid(points), RIGID, go_on) for _ in range(2))
    assert np.array_equal(one.transform, other.transform)
    assert (one.sigma, one.inliers) == (other.sigma, other.inliers)
    np.testing.assert_array_equal(one.runner_up, other.runner_up)


@pytest.mark.parametrize("dimension", [2, 3])
def test_three_points_suffice(dimension: int) -> None:
    problem = posed("gauss", 3, dimension=dimension, noise=0.0, seed=34)
    points = frame(problem.source, problem.target, one_unit=True)
    found = points.to_caller(find_start(points, Pyramid(points), RIGID, go_on).transform)
    assert errors(problem, found.linear, found.translation) == pytest.approx((0, 0), abs=1e-4)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_distant_point_does_not_hide_the_pose(swapped: bool) -> None:
    problem = posed("cube", 60, seed=35)
    far = np.vstack([problem.source, [1e9, 0, 0]]) if swapped else problem.source
    target = problem.target if swapped else np.vstack([problem.target, [0, -1e9, 0]])
    points = frame(far, target, one_unit=True)
    found = points.to_caller(find_start(points, Pyramid(points), RIGID, go_on).transform)
    assert errors(problem, found.linear, found.translation)[0] < 3


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (np.ones((20, 3)), np.ones((30, 3))),
        (np.eye(3), np.ones((1, 3))),
        (np.ones((1, 3)), np.eye(3)),
        (np.outer(np.arange(20.0), [1, 2, 3]), np.outer(np.arange(20.0), [3, 2, 1])),
        (np.repeat(np.eye(3), 50, 0), np.repeat(np.eye(3), 50, 0)),
    ],
    ids=["one place", "one target", "one source", "lines", "repetitions"],
)
def test_clouds_that_determine_no_pose_have_a_finite_start(source: Float64, target: Float64) -> None:
    points = frame(source, target, one_unit=True)
    found = find_start(points, Pyramid(points), RIGID, go_on)
    assert np.isfinite(found.transform).all()
