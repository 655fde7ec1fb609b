"""Voxels keep the mean of a cloud, even clouds are left alone, and every point keeps its match."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.em.coordinates import frame
from service.em.kernel.voxels import every_point, voxels
from service.em.problem import Problem
from service.em.register import register
from service.em.sampling.density import even_side
from service.em.sampling.match_all import match_all
from service.em.sampling.thinning import thinned
from service.errors import InvalidInput
from tests.problems.poses import cloud, posed
from tests.problems.scenes.scans import drive
from tests.problems.scenes.scene import Float64


def _rows(points: Float64) -> Float64:
    """Points (N, D) as rows of coordinates, at least three."""
    out = np.zeros((max(points.shape[1], 3), len(points)))
    out[: points.shape[1]] = points.T
    return out


def test_voxels_hold_their_points_and_keep_the_mean() -> None:
    rng = np.random.default_rng(1)
    points = _rows(rng.normal(size=(500, 3)))
    found = voxels(points, 0.4)
    assert found.counts.sum() == 500
    np.testing.assert_allclose(found.points @ found.counts / 500, points.mean(1), atol=1e-12)
    for k in range(len(found.counts)):
        members = points[:, found.of == k]
        assert members.shape[1] == found.counts[k]
        assert np.ptp(members, 1).max() < 0.4
        np.testing.assert_allclose(found.points[:, k], members.mean(1), atol=1e-12)


def test_far_points_share_the_outermost_voxel_and_nothing_overflows() -> None:
    points = _rows(np.array([[0.0, 0, 0], [1e300, 0, 0], [-1e300, 0, 0], [2e300, 0, 0]]))
    found = voxels(points, 1e-3)
    assert sorted(found.counts) == [1, 1, 2]


@pytest.mark.parametrize("family", ["cube", "gauss", "shell"])
def test_even_clouds_are_left_alone(family: str) -> None:
    rng = np.random.default_rng(2)
    one, other = (_rows(cloud(family, 4000, 3, rng)) for _ in range(2))
    assert even_side(one, other, 3) is None


def test_rings_of_a_scanner_are_uneven_and_become_even() -> None:
    scene = drive(3, rings=24, steps=700)
    points = frame(scene.source, scene.target, one_unit=True)
    found = thinned(points, "auto")
    assert found.side is not None
    assert even_side(found.frame.source, found.frame.target, 3) is None
    assert len(found.source.counts) < len(scene.source) / 3


def test_few_points_are_never_thinned() -> None:
    rng = np.random.default_rng(3)
    points = _rows(np.concatenate([rng.normal(size=(900, 3)), 1e-3 * rng.normal(size=(900, 3))]))
    assert even_side(points, points, 3) is None
    assert even_side(np.tile(points, 2), np.tile(points, 2) + 1e-5 * rng.normal(size=(3, 3600)), 3) is not None


def test_the_match_is_the_nearest_point_of_the_likeliest_voxel() -> None:
    target = _rows(np.array([[0.0, 0, 0], [0.3, 0, 0], [1.1, 0, 0], [1.4, 0, 0]]))
    found = voxels(target, 1.0)
    moved = _rows(np.array([[0.2, 0, 0], [1.0, 0, 0], [1.3, 0, 0], [9.0, 0, 0]]))
    best = np.array([0, 0, 1, -1])
    pairs = match_all(moved, target, found, best, np.array([1.0, 0.9, 0.6, 0.0]), np.array([1.0, 0.7, 0.6, 0.0]))
    assert pairs.match.tolist() == [1, 1, 3, -1]
    assert pairs.probability.tolist() == [1.0, 0.7, 0.6, 0.0]
    np.testing.assert_allclose(pairs.unmatched_probability, [0, 0.1, 0.4, 1])
    every = every_point(target)
    assert match_all(moved, target, every, np.array([3, 1, 0, 2]), np.ones(4), np.ones(4)).match.tolist() == [
        3,
        1,
        0,
        2,
    ]


def test_key_points_have_the_bytes_of_all_points_and_isotropic_noise() -> None:
    for seed in range(3):
        pair = posed("gauss", 150, overlap=0.8, outliers=0.2, noise=0.01, seed=seed)
        auto = register(Problem(pair.source, pair.target, transform="rigid"))
        plain = register(Problem(pair.source, pair.target, transform="rigid", sampling="all", noise="isotropic"))
        assert auto.noise == plain.noise == "isotropic"
        assert auto.sampling is None
        assert auto.translation.tobytes() == plain.translation.tobytes()
        assert auto.matching.tobytes() == plain.matching.tobytes()


@pytest.mark.parametrize("transform", ["translation", "rigid", "similarity", "affine"])
@pytest.mark.parametrize("dimension", [2, 3])
def test_a_length_thins_the_clouds_of_every_transform(transform: str, dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    # Four points in each of 300 places, which are voxels.
    places = rng.permutation(25**dimension)[:300, None] // 25 ** np.arange(dimension) % 25 + 0.125
    source = np.repeat(places, 4, 0) + 0.01 * rng.normal(size=(1200, dimension))
    shift = np.array([0.07, -0.03, 0.02][:dimension])
    target = np.repeat(places, 4, 0) + 0.01 * rng.normal(size=(1200, dimension)) + shift
    problem = Problem(source, target, transform=transform, init="identity", sampling=0.25, noise="isotropic")  # type: ignore[arg-type]
    found = register(problem)
    assert found.sampling == pytest.approx(0.25)
    np.testing.assert_allclose(found.translation, shift, atol=0.01)
    assert len(found.matching) == 1200
    assert (found.matching // 4 == np.arange(1200) // 4).mean() > 0.9
    assert len(set(found.matching.tolist())) > 300


def test_options_that_voxels_and_surfaces_exclude_are_named() -> None:
    points = np.random.default_rng(5).normal(size=(20, 3))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"sampling": 0.0}, "/sampling"),
        ({"sampling": float("nan")}, "/sampling"),
        ({"sampling": "some"}, "/sampling"),
        ({"sampling": 0.5, "transform": "nonrigid"}, "/sampling"),
        ({"sampling": 0.5, "transform": "rigid", "refine": True}, "/sampling"),
        ({"sampling": 0.5, "sigma": 0.1}, "/sampling"),
        ({"noise": "smooth"}, "/noise"),
        ({"noise": "surface", "transform": "similarity"}, "/noise"),
        ({"noise": "surface", "transform": "rigid", "normalize": "columns"}, "/noise"),
    ]
    for changes, pointer in wrong:
        with pytest.raises(InvalidInput) as caught:
            register(Problem(points, points)._replace(**changes))
        assert caught.value.pointer == pointer, changes
    line = np.random.default_rng(6).normal(size=(20, 1))
    with pytest.raises(InvalidInput, match="2 or 3 coordinates"):
        register(Problem(line, line, sampling=0.5))
    with pytest.raises(InvalidInput, match="2 or 3 coordinates"):
        register(Problem(line, line, noise="surface"))


def test_voxels_that_leave_too_few_points_are_refused() -> None:
    points = np.random.default_rng(7).normal(size=(50, 3))
    with pytest.raises(InvalidInput) as caught:
        register(Problem(points, points, transform="rigid", sampling=1e3))
    assert caught.value.pointer == "/sampling"
