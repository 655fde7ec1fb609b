"""The search for congruent triangles: the poses it finds, and its limits."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from service.em.coordinates import frame
from service.em.kernel.extent import box, clipped_deviation
from service.em.kinds import RIGID
from service.em.problem import Pose
from service.em.starting.background import log_density
from service.em.starting.congruence import PROGRESS_END, bases, congruent, distances
from service.em.starting.growing import grow
from service.em.starting.hypotheses import Hypotheses, Hypothesis, hypotheses
from service.em.starting.landscape import MISS, NO_TARGET, Landscape, landscape, log_ratio, next_to
from service.em.starting.pyramid import Pyramid
from service.em.starting.tuning import CONGRUENCE, LANDSCAPE
from tests.problems.poses import Posed, cloud, go_on, posed, rotation

Float64 = NDArray[np.float64]

SPACING = 0.15


def map_of(target: Float64) -> Landscape:
    """The landscape of `target` (M, 3), whose points are about SPACING apart."""
    return landscape(np.ascontiguousarray(target.T), np.ascontiguousarray(target.T), SPACING, 2 * SPACING, 3)


def poses_of(
    problem: Posed, triangle: int = 0, budget: int = 100_000, part: int = 1 << 60
) -> tuple[int, Float64, Float64]:
    """The number of hypotheses of one triangle of the source, its poses, and their log-ratios."""
    target = distances(np.ascontiguousarray(problem.target.T))
    made = bases(np.ascontiguousarray(problem.source.T), target, 10, 40, np.random.default_rng(0))
    near = np.ascontiguousarray(problem.source[made.around[triangle]])
    transforms, scores = np.zeros((CONGRUENCE.kept, 3, 4)), np.empty(CONGRUENCE.kept)
    flat = not problem.source[:, 2].any()
    place = map_of(problem.target)
    rules = 3, 0.05, flat, 1.0, 1.0, budget, part
    progress, tried = np.zeros(4, np.int64), 0
    while progress[0] != PROGRESS_END:
        tried = congruent(made.corners[triangle], near, target, place, *rules, progress, transforms, scores)
    return tried, transforms[scores > -np.inf], scores[scores > -np.inf]


@pytest.mark.parametrize("family", ["cube", "shell"])
def test_the_pose_that_puts_a_triangle_on_its_partners_is_the_best(family: str) -> None:
    problem = posed(family, 80, noise=0.0, seed=1)
    _, transforms, scores = poses_of(problem)
    best = transforms[scores.argmax()]
    assert best[:, :3] == pytest.approx(problem.rotation, abs=1e-9)
    assert best[:, 3] == pytest.approx(problem.translation, abs=1e-9)


@pytest.mark.parametrize("budget", [500, 100_000])
@pytest.mark.parametrize("family", ["cube", "shell"])
def test_the_poses_of_a_triangle_do_not_depend_on_the_parts_of_the_work(family: str, budget: int) -> None:
    problem = posed(family, 80, noise=0.01, seed=2)
    tried, transforms, scores = poses_of(problem, budget=budget)
    for part in (1, 100, 1000):
        other, moved, found = poses_of(problem, budget=budget, part=part)
        assert other == tried
        assert (moved == transforms).all()
        assert (found == scores).all()


def test_equal_distances_are_in_the_order_of_the_points() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), -1).reshape(-1, 3)
    found = distances(np.ascontiguousarray(grid.T))
    assert (found.order[:, 0] == np.arange(len(grid))).all()
    lengths = np.linalg.norm(grid[:, None] - grid, axis=-1).astype(np.float32)
    assert np.array_equal(found.sorted, np.sort(lengths, 1))
    assert np.array_equal(found.order, np.argsort(lengths, 1, kind="stable"))


def test_in_the_plane_two_points_suffice() -> None:
    problem = posed("cube", 60, dimension=2, noise=0.0, seed=2)
    source, target = (np.column_stack([one, np.zeros(len(one))]) for one in (problem.source, problem.target))
    _, transforms, scores = poses_of(problem._replace(source=source, target=target))
    assert transforms[scores.argmax()][:2, :2] == pytest.approx(problem.rotation, abs=1e-9)


def test_every_pose_is_a_proper_rotation() -> None:
    _, transforms, _ = poses_of(posed("gauss", 80, seed=3))
    for transform in transforms:
        assert transform[:, :3] @ transform[:, :3].T == pytest.approx(np.eye(3), abs=1e-9)
        assert np.linalg.det(transform[:, :3]) > 0


def test_the_search_ends_soon_after_its_budget() -> None:
    problem = posed("cube", 200, seed=4)
    whole, _, _ = poses_of(problem)
    tried, _, _ = poses_of(problem, budget=10)
    assert 10 < tried < whole


def test_the_points_around_a_triangle_are_sorted_by_distance_and_exclude_its_corners() -> None:
    points = cloud("cube", 100, 3, np.random.default_rng(5))
    made = bases(
        np.ascontiguousarray(points.T), distances(np.ascontiguousarray(points.T)), 7, 30, np.random.default_rng(0)
    )
    assert made.corners.shape == (7, 3, 3)
    assert made.around.shape == (7, 30)
    for corners, around in zip(made.corners, made.around, strict=True):
        away = np.linalg.norm(points[around] - corners.mean(0), axis=1)
        assert (np.diff(away) >= 0).all()
        assert np.linalg.norm(points[around][:, None] - corners, axis=-1).min() > 0


@pytest.mark.parametrize("overlap", [1.0, 0.6])
def test_growing_refines_an_inaccurate_pose(overlap: float) -> None:
    problem = posed("cube", 120, overlap=overlap, noise=0.003, seed=6)
    rng = np.random.default_rng(0)
    off = rotation(3, math.radians(4), rng) @ problem.rotation
    # Turned about a point that both clouds have.
    moved = problem.source @ problem.rotation.T + problem.translation
    nearest = np.linalg.norm(moved[:, None] - problem.target, axis=-1).min(1)
    shared = problem.source[nearest.argmin()]
    shift = problem.rotation @ shared + problem.translation - off @ shared
    around = np.argsort(((problem.source - shared) ** 2).sum(1))
    transforms = np.concatenate([off, shift[:, None]], 1)[None].copy()
    scores, rungs = np.zeros(1), np.zeros(1, np.int64)
    grow(RIGID, 3, problem.source, around, np.arange(120), map_of(problem.target), 3, transforms, scores, rungs)
    assert transforms[0, :, :3] == pytest.approx(problem.rotation, abs=0.01)


def test_a_pose_found_by_several_triangles_is_kept_once_with_their_number() -> None:
    found = Hypotheses(np.random.default_rng(0).normal(size=(3, 50)), least_distance=0.1)
    pose, other = np.eye(3, 4), np.eye(3, 4, 0) + np.ones((3, 4))
    for k in range(3):
        near = pose + 1e-3 * k
        found.add([Hypothesis(near, 0.1, 1.0 + k, 1), Hypothesis(pose, 0.1, 0.5, 1), Hypothesis(other, 0.1, 0.2, 1)])
    best, second = found.ranked()
    assert (best.support, best.score, second.support) == (3, 3.0, 3)
    assert best.transform == pytest.approx(pose + 2e-3)
    assert found.clear()


def test_of_two_poses_with_the_same_score_neither_stands_out() -> None:
    found = Hypotheses(np.random.default_rng(0).normal(size=(3, 50)), least_distance=0.1)
    for _ in range(5):
        found.add([Hypothesis(np.full((3, 4), x), 0.1, 0.5, 1) for x in (0.0, 1.0)])
    assert not found.clear()


def test_the_search_finds_the_pose_of_clouds_with_half_overlap() -> None:
    problem = posed("cube", 150, overlap=0.5, seed=7)
    points = frame(problem.source, problem.target, one_unit=True)
    best = hypotheses(points, Pyramid(points), RIGID, go_on).ranked()[0]
    truth = points.from_caller(Pose(problem.rotation, problem.translation))
    assert best.transform == pytest.approx(truth, abs=0.03)


def test_the_map_finds_the_target_next_to_a_place() -> None:
    target = cloud("cube", 150, 3, np.random.default_rng(8))
    place = map_of(target)
    for x in np.random.default_rng(9).uniform(-0.6, 0.6, (200, 3)):
        away = np.linalg.norm(target - x, axis=1)
        j = next_to(place, *x)
        if j == NO_TARGET:
            assert away.min() > SPACING
            continue
        # The map is exact at the middle of a voxel.
        assert away[j] <= away.min() + math.sqrt(3) * place.side
    assert next_to(place, 5.0, 0.0, 0.0) == NO_TARGET


@pytest.mark.parametrize("far", [1e30, -1e30])
def test_a_target_beyond_all_integers_is_not_on_the_map(far: float) -> None:
    target = np.concatenate([cloud("cube", 150, 3, np.random.default_rng(8)), [[far, 0.0, 0.0]]])
    place = map_of(target)
    assert place.nearest.max() < 150
    assert next_to(place, far, 0.0, 0.0) == NO_TARGET


def test_a_match_with_an_isolated_target_is_evidence_and_one_in_a_crowd_is_not() -> None:
    rng = np.random.default_rng(10)
    crowd = 0.02 * rng.normal(size=(150, 3))
    gain = map_of(np.concatenate([crowd, rng.uniform(1, 3, (10, 3))])).gain[2]
    assert gain[150:].min() > gain[:150].max()
    assert gain[150:].min() > 0


@pytest.mark.parametrize("near", [-9.0, -2.0, MISS, 0.0, 1.0, 9.0])
def test_the_log_ratio_is_close_to_its_formula(near: float) -> None:
    assert log_ratio(near) == pytest.approx(np.logaddexp(near, MISS), abs=0.11)


def test_the_widths_of_the_ladder_at_most_double() -> None:
    assert all(1 < wide / narrow <= 2 for narrow, wide in pairwise(LANDSCAPE.widths))


def test_the_smooth_density_at_a_point_omits_its_own_kernel() -> None:
    pair = np.array([[0.0, 1.0], [0, 0], [0, 0]])
    kernel = -0.5 - 1.5 * math.log(2 * math.pi)
    assert log_density(pair, pair, 1.0, 3) == pytest.approx([kernel, kernel])


def test_a_distant_point_does_not_change_the_spread_of_a_cloud() -> None:
    points = np.random.default_rng(11).normal(size=(3, 60))
    far = np.column_stack([points, [1e9, -1e9, 0]])
    assert clipped_deviation(far) < 2 * clipped_deviation(points)
    assert box(points)[0] == pytest.approx(points.min(1))
