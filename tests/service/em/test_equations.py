"""The equations of forces across the patches: their slopes, what they cure, and the covariance that follows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from service.em.climbing.climb import climb
from service.em.kernel.fitting import rms_distance
from service.em.kinds import RIGID
from service.em.model import Model, Parameters
from service.em.problem import Pose, Problem
from service.em.register import register
from service.em.surfaces.confidence import cells_of
from service.em.surfaces.equations import ALONG, LIKELIHOOD, Equations, equations, settled
from service.em.surfaces.mixture import SurfaceMixture
from service.em.surfaces.motion import displaced
from service.em.surfaces.patches import patches
from service.em.surfaces.scene import Scene, of_patches
from tests.problems.scenes.objects import cut
from tests.problems.scenes.scene import Float64, turn

NOISE = 0.004
MOTION = turn(np.array([0.02, -0.01, 0.015]))
SHIFT = np.array([0.01, -0.02, 0.015])


def _corner(rng: np.random.Generator, low: float, count: int = 900) -> Float64:
    """Points (n, 3) of three walls about a corner, seen from `low` to `low` + 1 along each."""
    walls = []
    for axis in range(3):
        wall = rng.uniform(low, low + 1, (count, 3))
        wall[:, axis] = 0
        walls.append(wall)
    points = np.concatenate(walls)
    return points + NOISE * rng.normal(size=points.shape)


def _pair(seed: int) -> tuple[Float64, Float64]:
    """Two views of a corner, with borders that differ by .15; MOTION and SHIFT take the first to the second."""
    rng = np.random.default_rng(seed)
    return _corner(rng, 0.0), _corner(rng, 0.15) @ MOTION.T + SHIFT


def _scene(seed: int) -> Scene:
    source, target = _pair(seed)
    return _of(source, target)


def _of(source: Float64, target: Float64) -> Scene:
    clouds = [np.ascontiguousarray(cloud.T) for cloud in (source, target)]
    found = [patches(cloud, 3).normals for cloud in clouds]
    return of_patches(clouds[0], found[0], clouds[1], found[1], 3, 1e-9)


def _climbed(
    scene: Scene, rotation: Float64 = MOTION, translation: Float64 = SHIFT
) -> tuple[SurfaceMixture, Parameters]:
    """The mixture, and the end of the climb from the truth."""
    mixture = SurfaceMixture(scene, Model(kind=RIGID, estimate_outliers=True), scene.tangential)
    start = Parameters(np.hstack([rotation, translation[:, None]]), scene.tangential / 2, 0.3)
    end = climb(mixture, start, tolerance=0.02, max_iterations=100, floor=1e-9, accept=lambda *_: True)
    return mixture, end.parameters


def _degrees(transform: Float64, rotation: Float64) -> float:
    off = transform[:, :3] @ rotation.T
    return math.degrees(np.linalg.norm([off[2, 1] - off[1, 2], off[0, 2] - off[2, 0], off[1, 0] - off[0, 1]]) / 2)


def _together(mixture: SurfaceMixture, at: Parameters, along: float = ALONG) -> Equations:
    """The equations with all points in one cell."""
    return equations(mixture, at, np.zeros(mixture.scene.source.shape[1], np.int64), along)[0]


def _cells(mixture: SurfaceMixture) -> NDArray[np.int64]:
    return np.asarray(np.arange(mixture.scene.source.shape[1]) % 7)


def test_borders_of_the_overlap_do_not_draw_the_pose() -> None:
    """Views of a figure that share 30 % of their points: most borders lie within the other view."""
    before, after = [], []
    for seed in range(60, 90, 2):
        view = cut(seed)
        mixture, end = _climbed(_of(view.source, view.target), view.rotation, view.translation)
        before.append(_degrees(end.transform, view.rotation))
        after.append(_degrees(settled(mixture, end, _cells(mixture)).at.transform, view.rotation))
    assert np.median(after) < 0.75 * np.median(before)


def test_the_equations_hold_where_they_are_settled() -> None:
    mixture, end = _climbed(_scene(0))
    pose = settled(mixture, end, _cells(mixture))
    assert pose.along == ALONG
    before, after = (np.abs(_together(mixture, at).scores[0]) for at in (end, pose.at))
    assert after.max() < 0.01 * before.max()
    # The equations by cells are those of this pose.
    assert np.abs(pose.equations.scores.sum(0)).max() < 1e-6 * before.max()
    again = equations(mixture, pose.at, _cells(mixture), ALONG)[0]
    np.testing.assert_allclose(pose.equations.scores, again.scores, atol=0.02 * np.abs(again.scores).max())


def test_a_climb_on_a_sample_ends_in_the_basin_of_the_equations_of_all() -> None:
    scene = _scene(0)
    mixture, whole = _climbed(scene)
    _, part = _climbed(scene.some(scene.sample(700)))
    assert rms_distance(scene.source, part.transform, whole.transform) > 0.05 * whole.sigma
    one, other = (settled(mixture, end, _cells(mixture)).at for end in (whole, part))
    assert rms_distance(scene.source, one.transform, other.transform) < 0.03 * whole.sigma
    # σ and the outliers are those of all points.
    assert other.sigma == pytest.approx(whole.sigma, rel=0.02)
    assert other.outliers == pytest.approx(whole.outliers, abs=0.01)


def test_a_sample_is_even() -> None:
    scene = _scene(0)
    some = scene.sample(700)
    assert len(some) == 700
    assert set(np.diff(some)) <= {3, 4}
    assert np.array_equal(scene.sample(10**6), np.arange(scene.source.shape[1]))


@pytest.mark.parametrize("along", [ALONG, LIKELIHOOD])
def test_slopes_are_derivatives(along: float) -> None:
    mixture, at = _climbed(_scene(1))
    width, found = 1e-3 * NOISE, _together(mixture, at, along)

    def scores(step: Float64) -> Float64:
        moved = at._replace(transform=displaced(at.transform, step))
        return np.asarray(_together(mixture, moved, along).scores[0])

    slopes = np.stack([(scores(-step) - scores(step)) / (2 * width) for step in width * np.eye(6)], 1)
    unit = np.sqrt(np.diag(found.slopes[0]))
    # The covariances turn with the source, which the slopes leave out, and some pairs cross the cutoff.
    np.testing.assert_allclose(slopes / np.outer(unit, unit), found.slopes[0] / np.outer(unit, unit), atol=0.05)


def test_cells_share_the_sums() -> None:
    mixture, at = _climbed(_scene(2))
    whole, parts = _together(mixture, at), equations(mixture, at, _cells(mixture), ALONG)[0]
    assert len(parts.scores) == 7
    np.testing.assert_allclose(parts.scores.sum(0), whole.scores[0], atol=1e-6 * np.abs(parts.scores).max())
    np.testing.assert_allclose(parts.slopes.sum(0), whole.slopes[0], rtol=1e-9, atol=1e-9 * whole.slopes.max())


def test_a_pose_that_nothing_determines_stays() -> None:
    scene = _scene(3)
    mixture = SurfaceMixture(scene, Model(kind=RIGID), scene.tangential)
    away = Parameters(np.hstack([np.eye(3), np.full((3, 1), 100.0)]), scene.tangential, 0.3)
    found = settled(mixture, away, _cells(mixture))
    assert found.at is away
    assert found.along == LIKELIHOOD


def test_the_covariance_is_the_scatter() -> None:
    """(Error)² by its covariance averages the number of its components, over samples of one corner."""
    ratios = []
    for seed in range(100, 116):
        source, target = _pair(seed)
        found = register(Problem(source, target, transform="rigid", noise="surface", init=Pose(MOTION, SHIFT)))
        assert found.translation_covariance is not None
        off = found.translation - SHIFT
        ratios.append(off @ np.linalg.solve(found.translation_covariance, off) / 3)
    assert 0.4 < np.mean(ratios) < 2


def test_the_number_of_cells_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = _scene(4)
    whole = cells_of(scene)
    most = int(whole.max())
    monkeypatch.setattr("service.em.surfaces.confidence.MOST_CELLS", most)
    found = cells_of(scene)
    assert found.max() == most - 1
    assert np.array_equal(found[whole < most], whole[whole < most])
