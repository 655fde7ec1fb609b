"""Numerical conditions: units, offsets, distant points, and clouds that do not determine a transform."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from service.em.problem import MIN_SIGMA, Pose, Transform
from service.em.register import register
from service.errors import InvalidInput
from tests.problems.clouds import moved, pose_of, posed
from tests.problems.tight import tight

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
    assert torch.equal(pose_of(scaled).linear, pose_of(plain).linear)
    assert torch.equal(scaled.translation, plain.translation * unit)
    assert scaled.sigma == plain.sigma * unit
    assert torch.equal(scaled.matching, plain.matching)
    assert scaled.translation_covariance is not None
    assert plain.translation_covariance is not None
    torch.testing.assert_close(
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
    torch.testing.assert_close(pose_of(scaled).linear, pose_of(plain).linear, rtol=0, atol=1e-7)
    torch.testing.assert_close(scaled.translation / unit, plain.translation, rtol=0, atol=1e-7)
    assert scaled.sigma / unit == pytest.approx(plain.sigma, rel=1e-5)


def _start(kind: Transform, pose: Pose, unit: float) -> Pose | Tensor:
    return pose.translation * unit if kind == "translation" else Pose(pose.linear, pose.translation * unit)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [1e3, 1e6, 1e9])
def test_clouds_far_from_the_origin_lose_no_accuracy_beyond_their_rounding(kind: Transform, place: float) -> None:
    instance = posed(40, kind=kind, sigma=0.01, angle=0.2, seed=3)
    a = torch.tensor([place, -place, 2 * place], dtype=torch.float64)
    plain = register(tight(instance.source, instance.target, init="centroid", **extra(kind)))
    there = register(tight(instance.source + a, instance.target - a, init="centroid", registered=True, **extra(kind)))
    rounding = 1e-15 * place
    torch.testing.assert_close(pose_of(there).linear, pose_of(plain).linear, rtol=0, atol=1e-6 + 1e3 * rounding)
    # T = -a - A a + ...: what A is off by is multiplied by the lever, so the points tell.
    assert there.registered is not None
    expected = moved(instance.source, pose_of(plain)) - a
    torch.testing.assert_close(there.registered, expected, rtol=0, atol=1e-6 + 1e3 * rounding)
    torch.testing.assert_close(moved(instance.source + a, pose_of(there)), there.registered, rtol=0, atol=20 * rounding)
    assert torch.equal(there.matching, plain.matching)


@pytest.mark.parametrize("ratio", [1e-8, 1e8])
def test_clouds_in_different_units_differ_by_a_similarity(ratio: float) -> None:
    instance = posed(50, sigma=0.002, seed=4)
    outcome = register(tight(instance.source, instance.target * ratio, transform="similarity"))
    assert torch.equal(outcome.matching, instance.partner)
    torch.testing.assert_close(pose_of(outcome).linear / ratio, instance.pose.linear, rtol=0, atol=0.01)
    assert outcome.sigma / ratio == pytest.approx(0.002, rel=0.3)


@pytest.mark.parametrize("kind", ["rigid", "similarity"])
@pytest.mark.parametrize("far", [1e1, 1e3])
@pytest.mark.parametrize("whose", ["source", "target"])
def test_a_few_distant_points_do_not_change_the_pose(kind: Transform, far: float, whose: str) -> None:
    instance = posed(60, kind=kind, sigma=0.005, seed=5)
    stray = far * torch.tensor([[1.0, -2.0, 3.0], [2.0, 1.0, -1.0]], dtype=torch.float64)
    clouds = {"source": instance.source, "target": instance.target}
    clouds[whose] = torch.cat([clouds[whose], stray])
    problem = tight(**clouds, transform=kind, init=instance.pose)
    outcome = register(problem)
    torch.testing.assert_close(pose_of(outcome).linear, instance.pose.linear, rtol=0, atol=0.03)
    assert torch.equal(outcome.matching[:60], instance.partner)
    if whose == "source":
        assert outcome.matching[60:].tolist() == [-1, -1]


ONE = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
LINE = torch.arange(10, dtype=torch.float64)[:, None] * torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64) + 1e3
GENERATOR = torch.Generator().manual_seed(0)
PLANE = torch.randn(20, 3, dtype=torch.float64, generator=GENERATOR) * torch.tensor([1, 1, 0])
SPACE = torch.randn(20, 3, dtype=torch.float64, generator=GENERATOR)


@pytest.mark.parametrize(
    ("kind", "flat"),
    [
        ("rigid", ONE), ("similarity", ONE), ("affine", ONE),
        ("rigid", ONE.repeat(7, 1)), ("similarity", ONE.repeat(7, 1)), ("affine", ONE.repeat(7, 1)),
        ("rigid", LINE), ("similarity", LINE), ("affine", LINE), ("affine", PLANE),
        ("nonrigid", ONE), ("nonrigid", LINE),
    ],
)  # fmt: skip
@pytest.mark.parametrize("whose", ["source", "target"])
@pytest.mark.parametrize("unit", [1e-20, 1.0, 1e20])
def test_a_cloud_that_leaves_the_transform_undetermined_is_refused(
    kind: Transform, flat: Tensor, whose: str, unit: float
) -> None:
    clouds = {"source": SPACE * unit, "target": SPACE * unit} | {whose: flat * unit}
    with pytest.raises(InvalidInput) as caught:
        register(tight(**clouds, transform=kind))
    if unit == 1 or not torch.equal(flat, flat[:1].expand_as(flat)):
        assert caught.value.pointer == f"/{whose}"
    assert kind in caught.value.detail


def test_distant_points_do_not_hide_that_the_others_are_on_a_line() -> None:
    stray = torch.tensor([[1e7, 2e8, -3e7]], dtype=torch.float64)
    with pytest.raises(InvalidInput, match="line"):
        register(tight(torch.cat([LINE, stray]), SPACE, transform="rigid"))


def test_distant_points_do_not_make_a_solid_cloud_a_line() -> None:
    stray = torch.tensor([[1e12, 2e12, -3e12]], dtype=torch.float64)
    assert register(tight(torch.cat([SPACE, stray]), SPACE, transform="rigid")).matching[:20].tolist() == list(
        range(20)
    )


@pytest.mark.parametrize("kind", ["rigid", "similarity"])
def test_a_plane_in_space_determines_a_rotation(kind: Transform) -> None:
    instance = posed(20, kind=kind, seed=6)
    outcome = register(tight(PLANE, moved(PLANE, instance.pose), transform=kind, outlier_weight=0.0))
    torch.testing.assert_close(pose_of(outcome).linear, instance.pose.linear, rtol=0, atol=1e-6)


@pytest.mark.parametrize("init", ["auto", "centroid", "identity"])
@pytest.mark.parametrize("counts", [(1, 1), (1, 5), (4, 1), (3, 3)])
def test_the_translation_of_clouds_without_extent_is_their_difference(init: Any, counts: tuple[int, int]) -> None:
    n, m = counts
    for weight in (0.0, 0.1):
        problem = tight(ONE.repeat(n, 1), ONE.repeat(m, 1) + 0.5, init=init, outlier_weight=weight, refine=True)
        outcome = register(problem)
        torch.testing.assert_close(outcome.translation, torch.full((3,), 0.5, dtype=torch.float64))
        assert outcome.sigma >= MIN_SIGMA
        assert math.isfinite(outcome.log_likelihood)
