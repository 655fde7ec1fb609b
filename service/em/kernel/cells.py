"""A cloud sorted into the cells of a grid, which finds a point's neighbours without visiting the other points.

The grid lies on the first three coordinates. A cloud of fewer dimensions has zeros in the others, where the grid is one
cell wide. The grid spans most of the cloud, and its outermost cells reach to infinity, so that a few distant points do
not enlarge the cells. A row of cells along the first coordinate is contiguous in memory.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# The number of the grid's axes, and the least number of rows of an array of points.
AXES = 3
# The length of `starts` for a grid of one cell, and a side that makes one.
ONE_CELL = 2
ONE_CELL_SIDE = 1e300
# The share of the cloud at either end of an axis that the grid may leave out.
TAIL = 0.005
# The most cells for each point. More would take longer to clear than to search.
CELLS_PER_POINT = 1.0


class Cells(NamedTuple):
    """M points in the order of their cells."""

    points: Float64  # (P, M) sorted by cell; P >= AXES
    order: Int64  # (M,) the index of each before sorting
    starts: Int64  # (cells + 1,) the first point of each cell
    low: Float64  # (AXES,) the grid's corner
    side: float  # of a cell
    shape: Int64  # (AXES,) cells along each axis


def cells(points: Float64, side: float) -> Cells:
    """`points` (P, M) in cells of at least `side`; in a single cell if `side` is as large as the cloud."""
    low, high = _span(points[:AXES])
    return sorted_cells(points, low, high, side)


def _span(points: Float64) -> tuple[Float64, Float64]:
    """The corners (AXES,) of a box that holds most of the cloud (AXES, M)."""
    count = points.shape[1]
    if count < 2048:
        return points.min(1), points.max(1)
    # A strided sample suffices; sorting a million points would take longer than everything else.
    sample = points[:, :: max(1, count // 4096)]
    low, high = np.quantile(sample, (TAIL, 1 - TAIL), axis=1)
    margin = (high - low) * 0.02
    return np.maximum(low - margin, points.min(1)), np.minimum(high + margin, points.max(1))


@compiled
def cell_of(value: float, low: float, side: float, count: int) -> int:
    """The cell of a coordinate, from 0 to `count` - 1. Coordinates beyond the grid belong to the outermost cells."""
    # Bounded as a float: what a float beyond the integers converts to depends on the processor. NaN is in the first
    # cell, so that no number leads out of the arrays.
    place = (value - low) / side
    return int(min(place if place > 0.0 else 0.0, count - 1.0))


@compiled
def sorted_cells(points: Float64, low: Float64, high: Float64, side: float) -> Cells:
    """`points` (P, M) in cells of at least `side`, on a grid between the corners `low` and `high` (AXES,).

    Within a cell the points keep their order. A grid of 8 cells or fewer becomes a single cell.
    """
    rows, count = points.shape
    extent = (high - low).max()
    side = max(side, extent * 1e-6, 1e-300)
    shape = np.ones(AXES, np.int64)
    while True:
        total = 1.0
        for axis in range(AXES):
            along = max(math.ceil((high[axis] - low[axis]) / side), 1.0)
            total *= along
            shape[axis] = int(along)
        if total <= max(8.0, CELLS_PER_POINT * count):
            break
        side *= 1.15
    starts = np.zeros(ONE_CELL, np.int64)
    order = np.arange(count)
    if total <= 8:  # so few cells would save no time
        starts[1] = count
        shape[:] = 1
        return Cells(points, order, starts, low, side, shape)
    starts = np.zeros(int(total) + 1, np.int64)
    code = np.empty(count, np.int64)
    for j in range(count):
        at = 0
        for axis in range(AXES - 1, -1, -1):
            at = at * shape[axis] + cell_of(points[axis, j], low[axis], side, shape[axis])
        code[j] = at
        starts[at + 1] += 1
    for c in range(len(starts) - 1):
        starts[c + 1] += starts[c]
    free = starts[:-1].copy()
    out = np.empty((rows, count))
    for j in range(count):
        at = free[code[j]]
        free[code[j]] += 1
        order[at] = j
        for d in range(rows):
            out[d, at] = points[d, j]
    return Cells(out, order, starts, low, side, shape)


@compiled
def corners(points: Float64) -> tuple[Float64, Float64]:
    """The corners (AXES,) of the box of the cloud (P, M) along the grid's axes."""
    low, high = np.empty(AXES), np.empty(AXES)
    for d in range(AXES):
        low[d], high[d] = points[d].min(), points[d].max()
    return low, high
