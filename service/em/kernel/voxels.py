"""A cloud thinned by a voxel grid: one point for each occupied voxel, the mean of the points in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .cells import AXES

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Voxels of an axis on either side of the origin; those beyond are the outermost one. Three indices fit into 63 bits.
REACH = 1 << 20


class Voxels(NamedTuple):
    """The occupied voxels of a cloud, in the order of the grid."""

    points: Float64  # (P, K) the mean of the points of each
    counts: Int64  # (K,) their number
    of: Int64  # (N,) the voxel of each point


def voxels(points: Float64, side: float) -> Voxels:
    """The voxels of edge length `side` of a cloud (P, N) in a frame's coordinates, whose first three make the grid.

    The origin, which is the median of the cloud, is the middle of a voxel.
    """
    _, of, counts = np.unique(_codes(points, side), return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(of, row, len(counts)) for row in points]) / counts
    return Voxels(means, counts, of)


def occupied(points: Float64, side: float) -> int:
    """The number of these voxels, in less time."""
    codes = np.sort(_codes(points, side))  # in a quarter of the time of `np.unique`
    return 1 + int(np.count_nonzero(np.diff(codes)))


def _codes(points: Float64, side: float) -> Int64:
    """The number (N,) of the voxel of each point."""
    code = np.zeros(points.shape[1], np.int64)
    for row in points[:AXES]:
        place = np.clip(np.floor(row / side + 0.5), -REACH, REACH - 1).astype(np.int64)
        code = code * (2 * REACH) + (place + REACH)
    return code


def every_point(points: Float64) -> Voxels:
    """A cloud that is not thinned: each point is a voxel of its own."""
    count = points.shape[1]
    return Voxels(points, np.ones(count, np.int64), np.arange(count))
