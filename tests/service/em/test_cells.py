"""Cells: each point is in one cell, neighbours are complete, and a few distant points do no harm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.em.kernel.cells import CELLS_PER_POINT, cell_of, cells
from service.em.kernel.truncated import all_targets, neighbours


@given(
    count=st.integers(1, 5000),
    dimension=st.integers(3, 5),
    side=st.floats(1e-3, 10),
    flat=st.integers(0, 3),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_each_point_is_in_the_cell_of_its_coordinates(
    count: int, dimension: int, side: float, flat: int, seed: int
) -> None:
    points = np.random.default_rng(seed).normal(size=(dimension, count))
    points[:flat] = 0
    found = cells(points, side)
    assert sorted(found.order.tolist()) == list(range(count))
    assert (found.points == points[:, found.order]).all()
    assert found.starts[0] == 0
    assert found.starts[-1] == count
    assert (np.diff(found.starts) >= 0).all()
    total = int(np.prod(found.shape))
    assert len(found.starts) == total + 1
    assert total <= max(8, CELLS_PER_POINT * count)
    if total > 1:
        assert found.side >= side
        at = [
            [cell_of(value, found.low[axis], found.side, found.shape[axis]) for value in found.points[axis]]
            for axis in range(3)
        ]
        code = (np.array(at[2]) * found.shape[1] + at[1]) * found.shape[0] + at[0]
        assert (code == np.repeat(np.arange(total), np.diff(found.starts))).all()


@pytest.mark.parametrize("value", [1e3, 1e19, 1e300, np.inf])
def test_coordinates_beyond_the_grid_belong_to_the_outermost_cells(value: float) -> None:
    assert cell_of(value, -1.0, 0.5, 10) == 9
    assert cell_of(-value, -1.0, 0.5, 10) == 0


@given(
    count=st.integers(1, 3000),
    dimension=st.integers(3, 4),
    side=st.floats(0.05, 1),
    radius=st.floats(0, 5),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_neighbours_are_all_points_within_reach(
    count: int, dimension: int, side: float, radius: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    points, x = rng.normal(size=(dimension, count)), rng.normal(size=(dimension, 5)) * [1, 1, 2, 5, 50]
    grid = cells(points, side)
    index, distance = np.empty(count, np.int32), np.empty(count)
    squares = ((x[:, :, None] - points[:, None, :]) ** 2).sum(0)
    for i in range(5):
        found, seen = neighbours(x, i, grid, radius**2, index, distance)
        inside = np.flatnonzero(squares[i] <= radius**2 * (1 - 1e-12))
        about = np.flatnonzero(squares[i] <= radius**2 * (1 + 1e-12))
        own = set(grid.order[index[:found]].tolist())
        assert set(inside.tolist()) <= own <= set(about.tolist())
        assert distance[:found] == pytest.approx(squares[i, grid.order[index[:found]]], rel=1e-12)
        assert seen < count or found == (squares[i] <= radius**2).sum()
        assert all_targets(x, i, grid, index, distance) == count
        assert distance == pytest.approx(squares[i, grid.order], rel=1e-12)


def test_a_few_distant_points_do_not_enlarge_the_cells() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(3, 10_000))
    points[:, :20] *= 1e12
    found = cells(points, 0.1)
    assert np.diff(found.starts).max() < 200
    assert found.side < 0.2


def test_points_in_one_place_are_in_one_cell() -> None:
    found = cells(np.full((3, 1000), 7.0), 0.1)
    assert found.starts.tolist() == [0, 1000]
