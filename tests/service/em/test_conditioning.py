"""Numerical conditions: units, offsets, distant points, and clouds that do not determine a transform."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.em.choices import Transform
from service.em.problem import MIN_SIGMA, Pose
from service.em.register import register
from service.errors import InvalidInput
from tests.problems.clouds import moved, pose_of, posed
from tests.problems.tight import tight

Float64 = NDArray[np.float64]

KINDS: tuple[Transform, ...] = ("translation", "rigid", "similarity", "affine")


def extra(kind: Transform) -> dict[str, Any]:
    """Options that select the engine of poses for a translation as well."""
    return {"transform": kind, "outlier_weight": 0.05}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("power", [-133, -30, 53, 232])
def test_a_unit_that_is_a_power_of_two_changes_no_bit(kind: Transform, power: int) -> None:
    instance = posed(40, kind=kind, sigma=0.01, angle=0.2, seed=1)
    unit = 2.0**power
    plain = register(tight(instance.source, instance.target, init="centroid", **extra(kind)))
    scaled = register(tight(instance.source * unit, instance.target * unit, init="centroid", **extra(kind)))
    assert np.array_equal(pose_of(scaled).linear, pose_of(plain).linear)
    assert np.array_equal(scaled.translation, plain.translation * unit)
    assert scaled.sigma == plain.sigma * unit
    assert np.array_equal(scaled.matching, plain.matching)
    assert scaled.translation_covariance is not None
    assert plain.translation_covariance is not None
    np.testing.assert_allclose(
        scaled.translation_covariance, plain.translation_covariance * unit**2, rtol=1e-12, atol=0
    )
    # Densities have a unit too.
    assert scaled.log_likelihood == pytest.approx(plain.log_likelihood - 40 * 3 * power * math.log(2), rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", [1e-9, 1e16])
def test_nanometres_and_light_years_give_the_same_pose(kind: Transform, unit: float) -> None:
    instance = posed(40, kind=kind, sigma=0.01, seed=2)
    plain = register(tight(instance.source, instance.target, init=_start(kind, instance.pose, 1.0), **extra(kind)))
    problem = tight(
        instance.source * unit, instance.target * unit, init=_start(kind, instance.pose, unit), **extra(kind)
    )
    scaled = register(problem)
    np.testing.assert_allclose(pose_of(scaled).linear, pose_of(plain).linear, rtol=0, atol=1e-7)
    np.testing.assert_allclose(scaled.translation / unit, plain.translation, rtol=0, atol=1e-7)
    assert scaled.sigma / unit == pytest.approx(plain.sigma, rel=1e-5)


def _start(kind: Transform, pose: Pose, unit: float) -> Pose | Float64:
    return pose.translation * unit if kind == "translation" else Pose(pose.linear, pose.translation * unit)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [1e3, 1e6, 1e9])
def test_clouds_far_from_the_origin_lose_no_accuracy_beyond_their_rounding(kind: Transform, place: float) -> None:
    instance = posed(40, kind=kind, sigma=0.01, angle=0.2, seed=3)
    a = np.array([place, -place, 2 * place])
    plain = register(tight(instance.source, instance.target, init="centroid", **extra(kind)))
    there = register(tight(instance.source + a, instance.target - a, init="centroid", registered=True, **extra(kind)))
    rounding = 1e-15 * place
    np.testing.assert_allclose(pose_of(there).linear, pose_of(plain).linear, rtol=0, atol=1e-6 + 1e3 * rounding)
    # T = -a - A a + ...: what A is off by is multiplied by the lever, so the points tell.
    assert there.registered is not None
    expected = moved(instance.source, pose_of(plain)) - a
    np.testing.assert_allclose(there.registered, expected, rtol=0, atol=1e-6 + 1e3 * rounding)
    np.testing.assert_allclose(moved(instance.source + a, pose_of(there)), there.registered, rtol=0, atol=20 * rounding)
    assert np.array_equal(there.matching, plain.matching)


@pytest.mark.parametrize("ratio", [1e-8, 1e8])
def test_clouds_in_different_units_differ_by_a_similarity(ratio: float) -> None:
    instance = posed(50, sigma=0.002, seed=4)
    outcome = register(tight(instance.source, instance.target * ratio, transform="similarity"))
    assert np.array_equal(outcome.matching, instance.partner)
    np.testing.assert_allclose(pose_of(outcome).linear / ratio, instance.pose.linear, rtol=0, atol=0.01)
    assert outcome.sigma / ratio == pytest.approx(0.002, rel=0.3)


@pytest.mark.parametrize("kind", ["rigid", "similarity"])
@pytest.mark.parametrize("far", [1e1, 1e3])
@pytest.mark.parametrize("whose", ["source", "target"])
def test_a_few_distant_points_do_not_change_the_pose(kind: Transform, far: float, whose: str) -> None:
    instance = posed(60, kind=kind, sigma=0.005, seed=5)
    stray = far * np.array([[1.0, -2.0, 3.0], [2.0, 1.0, -1.0]])
    clouds = {"source": instance.source, "target": instance.target}
    clouds[whose] = np.concatenate([clouds[whose], stray])
    problem = tight(**clouds, transform=kind, init=instance.pose)
    outcome = register(problem)
    np.testing.assert_allclose(pose_of(outcome).linear, instance.pose.linear, rtol=0, atol=0.03)
    assert np.array_equal(outcome.matching[:60], instance.partner)
    if whose == "source":
        assert outcome.matching[60:].tolist() == [-1, -1]


ONE = np.array([[1.0, 2.0, 3.0]])
LINE = np.arange(10)[:, None] * np.array([1.0, 2.0, -0.5]) + 1e3
GENERATOR = np.random.default_rng(0)
PLANE = GENERATOR.normal(size=(20, 3)) * np.array([1, 1, 0])
SPACE = GENERATOR.normal(size=(20, 3))


@pytest.mark.parametrize(
    ("kind", "flat"),
    [
        ("rigid", ONE), ("similarity", ONE), ("affine", ONE),
        ("rigid", np.tile(ONE, (7, 1))), ("similarity", np.tile(ONE, (7, 1))), ("affine", np.tile(ONE, (7, 1))),
        ("rigid", LINE), ("similarity", LINE), ("affine", LINE), ("affine", PLANE),
        ("nonrigid", ONE), ("nonrigid", LINE),
    ],
)  # fmt: skip
@pytest.mark.parametrize("whose", ["source", "target"])
@pytest.mark.parametrize("unit", [1e-20, 1.0, 1e20])
def test_a_cloud_that_leaves_the_transform_undetermined_is_refused(
    kind: Transform, flat: Float64, whose: str, unit: float
) -> None:
    clouds = {"source": SPACE * unit, "target": SPACE * unit} | {whose: flat * unit}
    with pytest.raises(InvalidInput) as caught:
        register(tight(**clouds, transform=kind))
    if unit == 1 or not np.array_equal(flat, np.broadcast_to(flat[0], flat.shape)):
        assert caught.value.pointer == f"/{whose}"
    assert kind in caught.value.detail


def test_distant_points_do_not_hide_that_the_others_are_on_a_line() -> None:
    stray = np.array([[1e7, 2e8, -3e7]])
    with pytest.raises(InvalidInput, match="line"):
        register(tight(np.concatenate([LINE, stray]), SPACE, transform="rigid"))


def test_distant_points_do_not_make_a_solid_cloud_a_line() -> None:
    stray = np.array([[1e12, 2e12, -3e12]])
    assert register(tight(np.concatenate([SPACE, stray]), SPACE, transform="rigid")).matching[:20].tolist() == list(
        range(20)
    )


@pytest.mark.parametrize("kind", ["rigid", "similarity"])
def test_a_plane_in_space_determines_a_rotation(kind: Transform) -> None:
    instance = posed(20, kind=kind, seed=6)
    outcome = register(tight(PLANE, moved(PLANE, instance.pose), transform=kind, outlier_weight=0.0))
    np.testing.assert_allclose(pose_of(outcome).linear, instance.pose.linear, rtol=0, atol=1e-6)


@pytest.mark.parametrize("init", ["auto", "centroid", "identity"])
@pytest.mark.parametrize("counts", [(1, 1), (1, 5), (4, 1), (3, 3)])
def test_the_translation_of_clouds_without_extent_is_their_difference(init: Any, counts: tuple[int, int]) -> None:
    n, m = counts
    for weight in (0.0, 0.1):
        problem = tight(np.tile(ONE, (n, 1)), np.tile(ONE, (m, 1)) + 0.5, init=init, outlier_weight=weight, refine=True)
        outcome = register(problem)
        np.testing.assert_allclose(outcome.translation, np.full((3,), 0.5))
        assert outcome.sigma >= MIN_SIGMA
        assert math.isfinite(outcome.log_likelihood)


@pytest.mark.parametrize("twins", [0.0, 1e-6])
def test_an_affine_map_of_eighty_dimensions_is_found(twins: float) -> None:
    # Densities of that many dimensions exceed what a float holds.
    rng = np.random.default_rng(80)
    source = rng.normal(size=(100, 80))
    if twins:
        source = np.vstack([source, source + twins * rng.normal(size=source.shape)])
    found = pose_of(register(tight(source, source + 1.0, transform="affine", init="auto")))
    np.testing.assert_allclose(source @ found.linear.T + found.translation, source + 1.0, rtol=0, atol=1e-9)
