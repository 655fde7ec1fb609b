"""The distance between neighbouring points of a cloud."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from .cells import AXES, Cells, cells
from .single_precision import FEW_TARGETS
from .truncated import least_of, neighbours, squares_from

Float64 = NDArray[np.float64]

# The points whose nearest neighbours are searched.
SAMPLE = 200


def spacing_between(points: Float64, dimension: int) -> float:
    """The median distance from a point to the nearest one at another place, for `points` (P, M); 0 if all coincide.

    The median is over the first SAMPLE points, which must be a random sample. `dimension` is D <= P.
    """
    m = points.shape[1]
    if m == 1:
        return 0.0
    sample = np.ascontiguousarray(points[:, :SAMPLE])
    if m <= FEW_TARGETS:
        return _median(_nearest_of_all(sample, points))
    extent = float(np.abs(points).max())
    grid = cells(points, extent / m ** (1 / min(dimension, AXES)))
    return _median(_nearest_elsewhere(sample, grid))


@compiled
def _median(squares: Float64) -> float:
    """The square root of the median; 0 unless all values are finite."""
    middle = math.sqrt(np.median(squares))
    return middle if squares.max() < np.inf else 0.0


@compiled
def _nearest_of_all(sample: Float64, points: Float64) -> Float64:
    """`_nearest_elsewhere` by visiting all `points` (P, M)."""
    squares, out = np.empty(points.shape[1]), np.empty(sample.shape[1])
    for i in range(sample.shape[1]):
        squares_from(sample, i, points, squares)
        for j in range(points.shape[1]):
            squares[j] = squares[j] if squares[j] > 0 else np.inf
        out[i] = least_of(squares, len(squares))
    return out


@compiled
def _nearest_elsewhere(sample: Float64, grid: Cells) -> Float64:
    """The squared distance (n,) from each of `sample` (P, n) to the nearest target at another place; inf for none."""
    size = grid.points.shape[1]
    index, distance = np.empty(size, np.int32), np.empty(size)
    out = np.empty(sample.shape[1])
    for i in range(sample.shape[1]):
        reach = grid.side**2
        least = np.inf
        while True:
            found, seen = neighbours(sample, i, grid, reach, index, distance)
            for k in range(found):
                if distance[k] > 0:
                    least = min(least, distance[k])
            if least < np.inf or (seen == size and (found == size or not reach < np.inf)):
                break
            reach *= 4
        out[i] = least
    return out
