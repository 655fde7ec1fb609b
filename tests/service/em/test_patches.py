"""Patches of known surfaces have their normals, and those of any cloud are what the written formula gives."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from service.em.kernel.tree import tree
from service.em.slices import sliced
from service.em.surfaces.patches import FLAT, MORE_NEIGHBOURS, NEIGHBOURS, ROUGH, SURE, patches, patches_if_flat
from tests.problems.scenes.scene import Float64, any_rotation


def _written_out(points: Float64, dimension: int) -> tuple[Float64, float]:
    """The normals (P, K) and the share of sure patches, with all distances and a library's eigenvectors."""
    cloud = points[:dimension]
    order = ((cloud[:, :, None] - cloud[:, None]) ** 2).sum(0).argsort(1)
    normals, sure = np.zeros(points.shape), np.zeros(points.shape[1], np.bool_)
    for count in NEIGHBOURS[dimension], MORE_NEIGHBOURS[dimension]:
        if (~sure).mean() < ROUGH or points.shape[1] <= count:
            break
        for i in np.flatnonzero(~sure):
            variances, axes = np.linalg.eigh(np.cov(cloud[:, order[i, :count]]))
            ratio = math.sqrt(max(variances[0], 0) / variances[1])
            if ratio < FLAT:
                normals[:dimension, i] = axes[:, 0]
            sure[i] = ratio < SURE
    return normals, float(sure.mean())


def _sheet(count: int, noise: float, rng: np.random.Generator) -> Float64:
    """Points (3, K) of a bent sheet, ten times as dense at one end as at the other, with noise across."""
    x, y = rng.uniform(size=count) ** 2, rng.uniform(size=count)
    points = np.stack([x, y, 0.2 * np.sin(3 * x) * y + noise * rng.normal(size=count)])
    return any_rotation(rng) @ points


def _curve(count: int, noise: float, rng: np.random.Generator) -> Float64:
    """Points (3, K) of an ellipse in the plane, with noise."""
    angle = rng.uniform(0, 2 * np.pi, count)
    curve = np.stack([2 * np.cos(angle), np.sin(angle), np.zeros(count)])
    curve[:2] += noise * rng.normal(size=(2, count))
    return curve


def _sphere(count: int, rng: np.random.Generator) -> Float64:
    points = rng.normal(size=(3, count))
    return np.asarray(points / np.linalg.norm(points, axis=0))


def _assert_same_axes(found: Float64, expected: Float64) -> None:
    np.testing.assert_array_equal((found != 0).any(0), (expected != 0).any(0))
    some = (expected != 0).any(0)
    off = found[:, some] * np.sign((found * expected).sum(0))[some] - expected[:, some]
    np.testing.assert_allclose(off, 0, atol=1e-9)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
@pytest.mark.parametrize(("dimension", "surface"), [(2, _curve), (3, _sheet)])
@pytest.mark.parametrize("count", [13, 41, 100, 700])
def test_patches_are_those_of_the_formula(
    count: int, dimension: int, surface: Callable[[int, float, np.random.Generator], Float64], noise: float
) -> None:
    points = surface(count, noise, np.random.default_rng([count, 1]))
    found, (normals, flat) = patches(points, dimension), _written_out(points, dimension)
    _assert_same_axes(found.normals, normals)
    assert found.flat == pytest.approx(flat)


def test_those_of_solids_and_of_coordinates_of_maps_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(2)
    for points in rng.normal(size=(3, 600)), _sheet(600, 0.01, rng) + np.array([[4.5e5], [5.4e6], [300]]):
        found, (normals, flat) = patches(points, 3), _written_out(points, 3)
        _assert_same_axes(found.normals, normals)
        assert found.flat == pytest.approx(flat)


def test_patches_know_planes_spheres_and_cylinders() -> None:
    rng = np.random.default_rng(3)
    turn = any_rotation(rng)
    flat = turn @ np.vstack([rng.uniform(-1, 1, (2, 5000)), np.full(5000, 7.0)])
    found = patches(flat, 3)
    assert found.flat == 1
    np.testing.assert_allclose(np.abs(turn[:, 2] @ found.normals), 1, atol=1e-12)
    noisy = patches(flat + turn[:, 2:] * 0.005 * rng.normal(size=5000), 3)
    assert noisy.flat > 0.95
    assert np.quantile(np.abs(turn[:, 2] @ noisy.normals), 0.05) > 0.98
    ball = _sphere(5000, rng)
    assert np.quantile(np.abs((ball * patches(ball, 3).normals).sum(0)), 0.01) > 0.99
    angle = rng.uniform(0, 2 * np.pi, 5000)
    across = np.stack([np.cos(angle), np.sin(angle), np.zeros(5000)])
    tube = across + np.array([[0], [0], [1]]) * rng.uniform(-2, 2, 5000)
    assert np.quantile(np.abs((across * patches(tube, 3).normals).sum(0)), 0.01) > 0.99


def test_neighbours_on_a_line_or_in_one_place_have_no_patch() -> None:
    rng = np.random.default_rng(4)
    line = np.array([[1.0], [2.0], [-0.5]]) * rng.uniform(-1, 1, 1000)
    for cloud in line, line + 100, np.ones((3, 1000)), np.repeat(rng.normal(size=(3, 20)), 50, 1):
        found = patches(cloud, 3)
        assert found.flat == 0
        np.testing.assert_array_equal(found.normals, 0)


def test_the_normal_of_a_line_in_the_plane_is_across_it() -> None:
    line = np.array([[3.0], [4.0], [0.0]]) * np.random.default_rng(4).uniform(-1, 1, 500)
    found = patches(line, 2)
    assert found.flat == 1
    np.testing.assert_allclose(np.abs(np.array([4, -3, 0]) @ found.normals), 5)


@pytest.mark.parametrize("unit", [1e-140, 1e140])
def test_the_unit_of_length_does_not_matter(unit: float) -> None:
    points = _sheet(500, 0.03, np.random.default_rng(12))
    _assert_same_axes(patches(unit * points, 3).normals, patches(points, 3).normals)


@pytest.mark.parametrize("unit", [1e-320, 1e-200, 1e-162, 1e160, 1e200, np.nan])
def test_distances_without_a_square_have_no_patches_and_an_end(unit: float) -> None:
    points = unit * np.repeat(_sheet(200, 0.03, np.random.default_rng(13)), 11, 1)
    found = patches(points, 3)
    assert np.isfinite(found.normals).all()
    assert np.isfinite(patches(np.hstack([points, _sheet(50, 0, np.random.default_rng(14))]), 3).normals).all()


@pytest.mark.parametrize("count", range(1, 13))
def test_too_few_points_have_no_patches(count: int) -> None:
    found = patches(np.random.default_rng(5).normal(size=(3, count)), 3)
    assert found.flat == 0
    np.testing.assert_array_equal(found.normals, np.zeros((3, count)))


def test_points_at_equal_distances_all_count() -> None:
    """The axes of a lattice are those of its symmetry, wherever its points are and whatever their order."""
    rng = np.random.default_rng(6)
    x, y = (part.ravel() for part in np.meshgrid(np.arange(30.0), np.arange(30.0)))
    points = np.stack([x, y, 0.1 * ((x + y) % 2)]) * 0.1 + 1 / 3
    order = rng.permutation(900)
    found, shuffled = patches(points, 3), patches(points[:, order], 3)
    inner = (x > 3) & (x < 26) & (y > 3) & (y < 26)
    np.testing.assert_allclose(np.abs(found.normals[2, inner]), 1)
    np.testing.assert_allclose(np.abs(shuffled.normals), np.abs(found.normals[:, order]), atol=1e-6)


@pytest.mark.parametrize("far", [800.0, 1e9])
def test_points_far_away_change_no_patch(far: float) -> None:
    rng = np.random.default_rng(7)
    ball = _sphere(3000, rng)
    scattered = far * rng.uniform(-1, 1, (3, 1500))
    scattered = scattered[:, np.abs(scattered).max(0) > 4]
    found = patches(np.hstack([ball, scattered]), 3)
    np.testing.assert_allclose(np.abs((found.normals[:, :3000] * patches(ball, 3).normals).sum(0)), 1)


@pytest.mark.parametrize(
    "spread",
    [
        lambda rng: 800 * rng.uniform(-1, 1, (3, 20000)),
        lambda rng: _sphere(20000, rng) * rng.pareto(1, 20000),
        lambda rng: _sphere(20000, rng) * 10 ** rng.uniform(-12, 12, 20000),
        lambda rng: np.repeat(_sphere(1, rng), 20000, 1),
        lambda rng: np.repeat(rng.integers(0, 5, (3, 200)), 100, 1),
    ],
)
def test_no_cloud_has_many_more_comparisons_than_an_even_one(
    spread: Callable[[np.random.Generator], Float64],
) -> None:
    """Slices have about equal work, so their number measures it on every machine."""

    def slices(points: Float64) -> int:
        calls: list[None] = []
        with sliced(lambda: calls.append(None)):
            patches(points, 3)
        return len(calls)

    rng = np.random.default_rng(8)
    ball = _sphere(20000, rng)
    solid = slices(rng.normal(size=(3, 40000)))
    assert slices(np.hstack([ball, spread(rng)])) < 2 * solid


def test_no_patch_depends_on_where_the_loop_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    points = _sheet(2000, 0.03, np.random.default_rng(9))
    whole = patches(points, 3)
    monkeypatch.setattr("service.em.slices.SLICE_PAIRS", 1)
    parts = patches(points, 3)
    np.testing.assert_array_equal(parts.normals, whole.normals)
    assert parts.flat == whole.flat


@pytest.mark.parametrize("count", [1, 23, 24, 1000])
def test_a_tree_has_each_point_once_and_each_box_its_points(count: int) -> None:
    rng = np.random.default_rng(10)
    points = np.round(rng.normal(size=(3, count)), 1)
    found = tree(points)
    np.testing.assert_array_equal(np.sort(found.order), np.arange(count))
    np.testing.assert_array_equal(found.points, points[:, found.order])
    level = 1
    while level < len(found.boxes):
        for k in range(level):
            some = found.points[:, count * k // level : count * (k + 1) // level]
            np.testing.assert_array_equal(found.boxes[level + k], [*some.min(1), *some.max(1)])
        level *= 2


def test_a_few_points_tell_that_a_solid_has_no_patches_and_a_surface_has_some() -> None:
    rng = np.random.default_rng(8)
    solid = rng.uniform(size=(3, 6000))
    sheet = np.stack([*rng.uniform(size=(2, 6000)), np.zeros(6000)])
    assert patches_if_flat(solid, 3, 0.28) is None
    found = patches_if_flat(sheet, 3, 0.28)
    assert found is not None
    whole = patches(sheet, 3)
    assert found.flat == whole.flat
    np.testing.assert_array_equal(found.normals, whole.normals)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.35])
def test_all_points_decide_where_a_few_do_not(share: float) -> None:
    rng = np.random.default_rng(9)
    count = round(8000 * share)
    sheet = np.stack([*rng.uniform(size=(2, count)), np.full(count, 3.0)])
    mixed = rng.permutation(np.concatenate([sheet, rng.uniform(size=(3, 8000 - count))], 1), axis=1)
    flat = patches(mixed, 3).flat
    for least in (flat - 0.01, flat + 0.01):
        found = patches_if_flat(mixed, 3, least)
        assert (found is not None) == (flat >= least)
