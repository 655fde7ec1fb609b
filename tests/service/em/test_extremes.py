"""A valid registration has a finite answer or a clear refusal, however large, small or far apart its numbers are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from service.em.choices import Transform
from service.em.climbing.correspondence import View, correspondence
from service.em.kernel.cells import cell_of, cells
from service.em.kernel.fitting import LEAST_SCALE, Sums, fit, rotation
from service.em.kinds import KINDS
from service.em.problem import Pose, Problem
from service.em.ranges import MAX_RATIO
from service.em.register import register
from service.em.wire import registration, rotation_and_scale
from service.errors import InvalidInput
from tests.problems.extremes import extreme


def not_finite(value: Any, place: str = "") -> Iterator[str]:
    """The places of numbers that are not finite."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from not_finite(one, f"{place}/{name}")
    elif isinstance(value, (list, tuple)):
        for index, one in enumerate(value):
            yield from not_finite(one, f"{place}/{index}")
    elif isinstance(value, np.ndarray):
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            yield place
    elif isinstance(value, float) and not math.isfinite(value):
        yield place


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("block", range(6))
def test_an_answer_is_finite_or_the_request_is_refused_with_a_field_and_a_cure(block: int) -> None:
    computed, faults = 0, list[int]()
    for seed in range(50 * block, 50 * block + 50):
        problem = extreme(seed)
        try:
            outcome = register(problem)
        except InvalidInput as error:
            faults += [] if error.pointer and error.allowed else [seed]
            continue
        assert [*not_finite(registration(outcome, problem.transform)), *not_finite(outcome._asdict())] == [], seed
        computed += 1
    assert not faults
    assert computed >= 10


TURNED = np.array([[0.86, 0.0], [0.5989274830528214, -3.0]])
FAR = np.array([[916804.0, -0.19122363153922717], [-1.0608925338080317, 864000.0]])


@pytest.mark.parametrize("kind", ["translation", "rigid", "similarity", "nonrigid"])
@pytest.mark.parametrize("ratio", [1e-7, 1.0, 1e5, 1e7])
def test_clouds_whose_sizes_differ_by_many_decades_are_registered(kind: Transform, ratio: float) -> None:
    outcome = register(Problem(TURNED * ratio, FAR, transform=kind))
    assert not [*not_finite(registration(outcome, kind))]


def test_triangles_whose_sides_are_equal_but_for_rounding_are_registered() -> None:
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]])
    source, target = corners, (corners + 1e6) * (1 + 1e-16)
    for kind in ("rigid", "similarity"):
        assert not [*not_finite(registration(register(Problem(source, target, transform=kind)), kind))]


def test_a_point_too_far_from_the_others_is_named() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [10 * MAX_RATIO, 0.0]])
    with pytest.raises(InvalidInput) as caught:
        register(Problem(points[:3], points, transform="rigid"))
    assert caught.value.pointer == "/target/3"


def test_a_sigma_out_of_all_proportion_to_the_clouds_is_refused() -> None:
    cloud = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]) * 1e-50
    with pytest.raises(InvalidInput) as caught:
        register(Problem(cloud, cloud, transform="rigid", sigma=1e75))
    assert caught.value.pointer == "/sigma"


def test_a_start_out_of_all_proportion_to_the_clouds_is_refused() -> None:
    cloud = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    for init in (np.full(2, 1e70), Pose(1e70 * np.eye(2), np.zeros(2)), Pose(1e-70 * np.eye(2), np.zeros(2))):
        with pytest.raises(InvalidInput) as caught:
            register(Problem(cloud, cloud, transform="similarity", init=init))
        assert caught.value.pointer == "/init"


def test_no_number_leads_out_of_the_grid() -> None:
    for value in (math.nan, math.inf, -math.inf, 1e300, -1e300):
        assert 0 <= cell_of(value, 0.0, 0.1, 10) <= 9


@pytest.mark.parametrize("size", [1e-320, 1e-300, 1.0, 1e300])
@pytest.mark.parametrize("dimension", [2, 3])
def test_a_rotation_is_orthogonal_however_small_the_covariance_is(size: float, dimension: int) -> None:
    cross = np.random.default_rng(0).normal(size=(dimension, dimension)) * size
    turned = rotation(cross)
    np.testing.assert_allclose(turned @ turned.T, np.eye(dimension), atol=1e-12)
    assert np.linalg.det(turned) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["similarity", "affine"])
def test_pairs_of_one_source_point_keep_the_linear_part(kind: Transform) -> None:
    p, q = np.array([0.3, -0.7, 1.0]), np.random.default_rng(1).normal(size=(9, 2))
    across = np.outer(p, q.sum(0))
    start = np.array([[2.0, 0.0, 5.0], [0.0, 2.0, 5.0]])
    after = fit(KINDS[kind].code, start, Sums(9 * np.outer(p, p), across, 0.0, 0.0))
    assert np.linalg.norm(after[:, :2]) == pytest.approx(np.linalg.norm(start[:, :2]))
    np.testing.assert_allclose(after @ p, q.mean(0))


def test_a_similarity_that_shrinks_to_a_point_keeps_a_rotation() -> None:
    p = np.vstack([np.random.default_rng(2).normal(size=(2, 9)), np.ones(9)])
    after = fit(KINDS["similarity"].code, np.eye(2, 3), Sums(p @ p.T, np.outer(p.sum(1), [3.0, 4.0]), 0.0, 0.0))
    turned = after[:, :2] / math.sqrt(abs(np.linalg.det(after[:, :2])))
    np.testing.assert_allclose(turned @ turned.T, np.eye(2), atol=1e-9)
    assert np.linalg.norm(after[:, :2]) >= LEAST_SCALE


@pytest.mark.parametrize("size", [1e-200, 1e-100, 1.0, 1e100, 1e200])
def test_rotation_and_scale_of_an_answer_are_exact_at_any_size(size: float) -> None:
    turned, scale = rotation_and_scale(size * np.array([[0.6, -0.8], [0.8, 0.6]]), KINDS["similarity"])
    assert turned is not None
    assert scale == pytest.approx(size, rel=1e-14, abs=0)
    np.testing.assert_allclose(turned, [[0.6, -0.8], [0.8, 0.6]], rtol=1e-14)


def test_responsibilities_are_probabilities_however_large_the_exponents_are() -> None:
    rng = np.random.default_rng(3)
    moved, target = np.zeros((3, 4)), np.zeros((3, 5))
    moved[:2], target[:2] = rng.normal(size=(2, 4)), rng.normal(size=(2, 5))
    squares = ((moved[:, :, None] - target[:, None]) ** 2).sum(0)
    precision = 1e100
    view = View(
        moved,
        cells(target, 1e9),
        np.empty(0),
        precision,
        precision * squares.min(1),
        squares.argmin(1),
        np.ones(4),
        np.ones(4),
        0.0,
        40.0,
    )
    found = correspondence(
        Problem(moved[:2].T, target[:2].T, responsibilities=True), view, lambda: None
    ).responsibilities
    assert found is not None
    np.testing.assert_array_equal(found, np.eye(5)[squares.argmin(1)])
