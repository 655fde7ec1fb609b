"""The frame: exact coordinates, and transforms there and back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.em.coordinates import ORDERED, check_rank, frame, span
from service.em.problem import Pose
from service.errors import InvalidInput


@given(
    dimension=st.integers(1, 6),
    source_unit=st.sampled_from([1e-9, 1.0, 1e16]),
    target_unit=st.sampled_from([1e-9, 1.0, 1e16]),
    place=st.sampled_from([0.0, 1.0, 1e6]),
    one_unit=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_transform_survives_the_conversion_to_the_frame_and_back(
    dimension: int, source_unit: float, target_unit: float, place: float, one_unit: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    source = source_unit * (rng.normal(size=(20, dimension)) + place)
    target = target_unit * (rng.normal(size=(15, dimension)) + place)
    points = frame(source, target, one_unit=one_unit)
    linear = rng.normal(size=(dimension, dimension)) * (target_unit / source_unit)
    given_ = Pose(linear, target.mean(0) - linear @ source.mean(0))
    inside = points.from_caller(given_)
    back = points.to_caller(inside)
    assert back.linear == pytest.approx(linear, rel=1e-13)
    size = np.abs(given_.translation).max() + np.abs(linear).max() * np.abs(source).max() + np.abs(target).max()
    assert back.translation == pytest.approx(given_.translation, abs=1e-14 * dimension * size)
    # It moves the same points to the same places.
    x = inside[:, :dimension] @ points.source[:dimension] + inside[:, dimension:]
    expected = source @ linear.T + given_.translation
    assert points.moved_to_caller(x) == pytest.approx(expected, abs=1e-14 * dimension**2 * size)
    for unit in (points.source_unit, points.target_unit):
        assert math.frexp(unit)[0] == 0.5
    assert not one_unit or points.source_unit == points.target_unit


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e16])
@pytest.mark.parametrize("place", [0.0, 1e6])
def test_coordinates_have_magnitude_one_and_are_exact(unit: float, place: float) -> None:
    rng = np.random.default_rng(0)
    source, target = (unit * (place + rng.normal(size=(101, 3))) for _ in range(2))
    points = frame(source, target, one_unit=False)
    for inside, cloud, centre, one in (
        (points.source, source, points.source_centre, points.source_unit),
        (points.target, target, points.target_centre, points.target_unit),
    ):
        assert 0.5 <= np.median(np.abs(inside).max(0)) < 2
        assert (np.isin(centre, cloud)).all()
        assert (inside.T * one + centre == cloud).mean() > (0.99 if place else 0.5)
        assert np.abs(inside.T * one + centre - cloud).max() <= 1e-15 * np.abs(cloud).max()


def test_large_clouds_are_sorted_and_answers_are_in_the_callers_order() -> None:
    rng = np.random.default_rng(1)
    source, target = rng.normal(size=(ORDERED + 1, 3)), rng.normal(size=(ORDERED + 500, 3))
    points = frame(source, target, one_unit=True)
    assert sorted(points.source_order.tolist()) == list(range(len(source)))
    assert (points.source_order != np.arange(len(source))).any()
    inside = ((source - points.source_centre) / points.source_unit)[points.source_order].T
    assert (points.source == inside).all()
    assert points.moved_to_caller(
        points.source * points.source_unit / points.target_unit
        + ((points.source_centre - points.target_centre) / points.target_unit)[:, None]
    ) == pytest.approx(source, abs=1e-14)
    labels = np.arange(len(source))
    assert (points.in_caller_order(labels[points.source_order]) == labels).all()
    kept = frame(source, target, one_unit=True, keep_order=True)
    assert (kept.source_order == labels).all()


def test_the_axes_of_the_grid_are_those_of_largest_extent() -> None:
    rng = np.random.default_rng(2)
    widths = np.array([0.1, 5.0, 0.2, 9.0, 7.0])
    source, target = rng.normal(size=(30, 5)) * widths, rng.normal(size=(40, 5)) * widths
    points = frame(source, target, one_unit=True)
    assert sorted(points.axes[:3].tolist()) == [1, 3, 4]
    transform = Pose(rng.normal(size=(5, 5)), rng.normal(size=5))
    inside = points.from_caller(transform)
    x = inside[:, :5] @ points.source[:5] + inside[:, 5:]
    assert points.moved_to_caller(x) == pytest.approx(source @ transform.linear.T + transform.translation)


@pytest.mark.parametrize("rank", [0, 1, 2, 3])
@pytest.mark.parametrize("place", [0.0, 1e5])
def test_the_rank_is_the_number_of_dimensions_that_a_cloud_spans(rank: int, place: float) -> None:
    rng = np.random.default_rng(rank)
    cloud = np.zeros((50, 3))
    cloud[:, :rank] = rng.normal(size=(50, rank))
    points = frame(cloud + place, rng.normal(size=(50, 3)), one_unit=False)
    assert span(points.source, points.rounding) == rank
    check_rank(points, rank, "rigid")
    if rank < 3:
        with pytest.raises(InvalidInput) as caught:
            check_rank(points, rank + 1, "rigid")
        assert caught.value.pointer == "/source"
        assert ["place", "line", "plane"][rank] in caught.value.detail


def test_distant_points_change_neither_the_unit_nor_the_rank() -> None:
    rng = np.random.default_rng(3)
    cloud = rng.normal(size=(50, 3))
    stray = np.vstack([cloud, [[1e12, -2e12, 3e12]]])
    plain, more = (frame(source, cloud, one_unit=False) for source in (cloud, stray))
    assert more.source_unit == plain.source_unit
    assert span(more.source, 0.0) == 3
    line = np.outer(np.arange(50.0), [1, 2, 3])
    assert span(frame(np.vstack([line, [[1e9, 0, 7e9]]]), cloud, one_unit=False).source, 1e-9) == 1
