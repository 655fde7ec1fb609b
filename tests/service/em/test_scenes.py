"""The scenes with known truth: rays hit where geometry says, and the true motion lays one scan on the other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import KDTree

from tests.problems.scenes import DEGENERATE, KINDS, SOUND
from tests.problems.scenes.casting import World, cast
from tests.problems.scenes.scene import Float64, direction, error, offset, turn
from tests.problems.scenes.sensors import looking
from tests.problems.scenes.solids import distance, figure, normals, sampled, seen


def _ranges(world: World, *rays: list[float], origin: tuple[float, float, float] = (0, 0, 0)) -> Float64:
    return cast(world, np.array(origin, float), np.array(rays), np.random.default_rng(0))


def test_rays_hit_the_nearest_side_and_from_inside_the_wall() -> None:
    # A box of 2 by 4 by 6 about (5, 0, 0), turned by 90°: it reaches from x = 3 to 7 and from y = -1 to 1.
    box = World(boxes=np.array([[5, 0, 0, 1, 2, 3, np.pi / 2]]))
    found = _ranges(box, [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0.8, 0, 0.6])
    np.testing.assert_allclose(found, [3, np.inf, np.inf, 3 / 0.8])
    inside = _ranges(box, [1, 0, 0], [0, 1, 0], [0, 0, -1], origin=(5, 0, 0))
    np.testing.assert_allclose(inside, [2, 1, 3])


def test_rays_hit_spheres_cylinders_and_the_ground() -> None:
    assert _ranges(World(spheres=np.array([[5, 0, 0, 2.0]])), [1, 0, 0]) == pytest.approx(3)
    pole = World(cylinders=np.array([[5, 0, 1, -1, 2.0]]))
    found = _ranges(pole, [1, 0, 0], [0.6, 0, 0.8], [0, 0, 1])
    np.testing.assert_allclose(found, [4, np.inf, np.inf])
    ground = _ranges(World(ground=-2.0), [0.8, 0, -0.6], [1, 0, 0], [0, 0, 1])
    np.testing.assert_allclose(ground, [2 / 0.6, np.inf, np.inf])


def test_leaves_are_hit_within_their_crown_at_the_mean_free_path() -> None:
    crown = World(crowns=np.array([[50, 0, 0, 40, 0.5]]))
    ranges = _ranges(crown, *[[1.0, 0, 0]] * 4000)
    assert ranges.min() > 10
    # The mean of 4,000 exponential depths has a standard error of .5/√4000.
    assert abs(ranges.mean() - 10.5) < 5 * 0.5 / np.sqrt(4000)


def test_the_first_hit_hides_what_is_behind() -> None:
    world = World(boxes=np.array([[9, 0, 0, 1, 1, 1, 0.0]]), spheres=np.array([[5, 0, 0, 1.0]]), ground=-2.0)
    np.testing.assert_allclose(_ranges(world, [1, 0, 0]), [4])


def test_samples_and_views_of_a_figure_are_on_its_surface() -> None:
    rng = np.random.default_rng(0)
    body = figure(rng)
    points = sampled(body, 500, rng)
    assert np.abs(distance(body, points)).max() < 1e-3
    from_side = seen(body, looking(np.array([2.0, 0, 0.3]), np.zeros(3)), rng, noise=0)
    assert np.abs(distance(body, from_side)).max() < 1e-3
    # A camera sees surfaces that face it.
    assert ((normals(body, from_side) * (np.array([2.0, 0, 0.3]) - from_side)).sum(1) > -0.1).all()


@pytest.mark.parametrize("kind", SOUND)
def test_the_true_motion_lays_the_source_on_the_target(kind: str) -> None:
    """A fifth of the source is closer to the target than after any of 20 motions that are off by 5 % and 10°."""
    scene = SOUND[kind](3)
    middle = scene.target.mean(0)
    # About the middle, so that map coordinates lose no digits: R p + T - c = R (p - c) + R c + T - c.
    shift = (scene.rotation - np.eye(3)) @ middle + scene.translation
    moved = (scene.source[::5] - middle) @ scene.rotation.T + shift
    tree, extent = KDTree(scene.target - middle), float(np.linalg.norm(np.ptp(scene.target, axis=0)))
    truth = np.quantile(tree.query(moved)[0], 0.2)
    rng = np.random.default_rng(0)
    for _ in range(20):
        about = moved.mean(0)
        other = (moved - about) @ turn(np.radians(10) * direction(rng)).T + about + 0.05 * extent * direction(rng)
        assert truth < np.quantile(tree.query(other)[0], 0.2)


@pytest.mark.parametrize("kind", DEGENERATE)
def test_a_free_motion_changes_the_fit_little(kind: str) -> None:
    """Residuals along normals, by which scans of other points of one surface compare, stay as they were."""
    scene = DEGENERATE[kind](1)
    moved = scene.source @ scene.rotation.T + scene.translation
    before = _off_surface(moved, scene.target)
    centre = scene.target.mean(0)
    for freedom in scene.free:
        if freedom.kind == "translation":
            after = _off_surface(moved + 0.05 * float(np.ptp(scene.target)) * freedom.axis, scene.target)
        else:
            after = _off_surface((moved - centre) @ turn(0.3 * freedom.axis).T + centre, scene.target)
        assert after < 1.5 * before
    if not any(one.kind == "translation" for one in scene.free):
        assert _off_surface(moved + 0.1 * direction(np.random.default_rng(0)), scene.target) > 2 * before


@pytest.mark.parametrize("kind", KINDS)
def test_scenes_are_seeded(kind: str) -> None:
    one, other, third = KINDS[kind](5), KINDS[kind](5), KINDS[kind](6)
    assert one.sort == ("sound" if kind in SOUND else "degenerate" if kind in DEGENERATE else "hopeless")
    for part in (one.source, one.target):
        assert np.isfinite(part).all()
        assert 80 <= len(part) < 60_000
    np.testing.assert_array_equal(one.source, other.source)
    np.testing.assert_array_equal(one.target, other.target)
    assert one.source.shape != third.source.shape or (one.source != third.source).any()


def test_errors_are_those_of_the_change() -> None:
    """A turn about the centroid by 2° and a step of .3 are seen as such, 5,000 km from the origin too."""
    scene = SOUND["cut"](0)
    for placed in (scene, offset(scene, np.array([4e5, 5e6, 300]))):
        centre = placed.source.mean(0)
        rotation = turn(np.radians(2) * np.array([0, 0.6, 0.8])) @ placed.rotation
        translation = placed.rotation @ centre + placed.translation - rotation @ centre + [0, 0.3, 0]
        found = error(placed, rotation, translation)
        assert found.degrees == pytest.approx(2)
        assert found.length == pytest.approx(0.3, rel=1e-6)


def _off_surface(points: Float64, target: Float64) -> float:
    """The median distance of points to the plane through their 12 nearest targets, one of which stands for a voxel."""
    voxels = np.floor(target / (float(np.ptp(target, axis=0).max()) / 150))  # rings alone are lines, not surfaces
    target = target[np.unique(voxels, axis=0, return_index=True)[1]]
    _, near = KDTree(target).query(points[::10], 12)
    patch = target[near]
    middle = patch.mean(1)
    normal = np.linalg.svd(patch - middle[:, None])[2][:, -1]
    return float(np.median(np.abs(((points[::10] - middle) * normal).sum(1))))
