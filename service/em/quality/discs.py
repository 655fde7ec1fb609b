"""A cloud as discs: its points in the cells of a grid, with the normals of their patches."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.cells import Cells, cells
from ..kernel.spacing import spacing_between
from ..kernel.truncated import exp_of, neighbours, squares_from
from ..model import log_root
from ..slices import pause
from .kernels import kernel, log_smooth
from .tuning import SURFACE

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

# The factor by which the squared radius of a neighbourhood grows until it has enough points.
GROWTH = 1.8
# Spacings that a cell of the grid is wide, and widths of a disc along it within which a point is compared with it.
SIDE, REACH = 2.0, 4.0


class Discs(NamedTuple):
    """The patches of a cloud in random order. All arrays but the first are in the order of the grid."""

    points: Float64  # (P, K)
    grid: Cells
    normals: Float64  # (P, K) unit vectors of the least variance of the points around
    flat: Bool  # (K,) whether that variance is much less than the others
    wide: Bool  # (K,) whether these points spread in all other directions, and not along a line alone
    edge: Bool  # (K,) whether they lie to one side
    spacing: float  # median distance between neighbours

    def across(self, at: Float64, index: Int64) -> Float64:
        """The offsets (n,) of places (P, n) from points of the grid along their normals."""
        return np.asarray(((at - self.grid.points[:, index]) * self.normals[:, index]).sum(0))


def discs(points: Float64, dimension: int) -> Discs:
    """The discs of a cloud (P, K) in random order."""
    D, spacing = dimension, spacing_between(points, dimension)
    grid = cells(points, SIDE * spacing)
    lean, spread = _around(grid, SURFACE.patch, SURFACE.radius * spacing)
    pause()
    variances, axes = np.linalg.eigh(spread[:, :D, :D])
    normals = np.zeros(points.shape)
    normals[:D] = axes[:, :, 0].T
    flat = variances[:, 0] <= SURFACE.flat * variances[:, 1]
    wide = variances[:, 1] >= SURFACE.wide * variances[:, -1]
    return Discs(points, grid, normals, flat, wide, lean > SURFACE.one_sided, spacing)


@compiled
def _around(grid: Cells, most: int, radius: float) -> tuple[Float64, Float64]:
    """The covariance (K, P, P) of the `most` nearest points to each, and how far it is from their mean.

    The latter (K,) is in distances of the farthest of them. The search begins within `radius`.
    """
    rows, size = grid.points.shape
    most = min(most, size)
    index, squares = np.empty(size, np.int32), np.empty(size)
    chosen, least = np.empty(most, np.int32), np.empty(most)
    lean, mean, covariance = np.zeros(size), np.empty(rows), np.zeros((size, rows, rows))
    for a in range(size):
        reach = radius * radius
        while True:
            found, _ = neighbours(grid.points, a, grid, reach, index, squares)
            if found >= most or not reach < np.inf:
                break
            reach *= GROWTH
        least[:] = np.inf
        for k in range(found):
            if squares[k] < least[most - 1]:
                place = most - 1
                while place > 0 and least[place - 1] > squares[k]:
                    least[place], chosen[place] = least[place - 1], chosen[place - 1]
                    place -= 1
                least[place], chosen[place] = squares[k], index[k]
        mean[:] = 0.0
        for k in range(most):
            for d in range(rows):
                off = grid.points[d, chosen[k]] - grid.points[d, a]
                mean[d] += off / most
                for e in range(d + 1):
                    covariance[a, d, e] += off * (grid.points[e, chosen[k]] - grid.points[e, a]) / most
        for d in range(rows):
            lean[a] += mean[d] ** 2
            for e in range(d + 1):
                covariance[a, d, e] -= mean[d] * mean[e]
                covariance[a, e, d] = covariance[a, d, e]
        lean[a] = math.sqrt(lean[a] / max(least[most - 1], 1e-300))
    return lean, covariance


@compiled
def nearest(x: Float64, grid: Cells) -> tuple[Float64, Int64]:
    """The distances (n,) from `x` (P, n) to the nearest points of the grid, and the indices of these there."""
    count, size = x.shape[1], grid.points.shape[1]
    index, squares = np.empty(size, np.int32), np.empty(size)
    distance, out = np.empty(count), np.empty(count, np.int64)
    for i in range(count):
        reach = grid.side**2
        while True:
            found, seen = neighbours(x, i, grid, reach, index, squares)
            if found > 0 or not reach < np.inf:
                break
            reach = 4 * reach if seen < size else np.inf
        least, at = np.inf, 0
        for k in range(found):
            if squares[k] < least:
                least, at = squares[k], k
        distance[i], out[i] = math.sqrt(least), index[at]
    return distance, out


@compiled
def densities(x: Float64, grid: Cells, normals: Float64, along: float, across: Float64, dimension: int) -> Float64:
    """The logarithms (K, n) of the density of the discs at `x` (P, n), for K widths across the surface."""
    size, (rows, count) = grid.points.shape[1], x.shape
    index, squares = np.empty(size, np.int32), np.empty(size)
    out, sums = np.empty((len(across), count)), np.empty(len(across))
    precision, reach = 0.5 / along**2, (REACH * along) ** 2
    for i in range(count):
        found, _ = neighbours(x, i, grid, reach, index, squares)
        sums[:] = 0.0
        for k in range(found):
            j, offset = index[k], 0.0
            for d in range(rows):
                offset += (x[d, i] - grid.points[d, j]) * normals[d, j]
            rest = max(squares[k] - offset * offset, 0.0) * precision
            for w in range(len(across)):
                sums[w] += exp_of(-rest - 0.5 * (offset / across[w]) ** 2)
        for w in range(len(across)):
            log_widths = (dimension - 1) * log_root(along) + log_root(across[w])
            out[w, i] = math.log(max(sums[w], 1e-300) / size) - log_widths
    return out


@compiled
def smooth(x: Float64, others: Float64, width: float, dimension: int, omitted: int) -> Float64:
    """The logarithm (n,) of the density of `others` (P, m) at `x` (P, n), by Gaussian kernels of this width.

    With `omitted` = 1 each point is left out of its own density: `x` are the first of `others`.
    """
    squares, out = np.empty(others.shape[1]), np.empty(x.shape[1])
    for i in range(len(out)):
        squares_from(x, i, others, squares)
        total = kernel(squares, len(squares), width) - omitted
        out[i] = log_smooth(total, len(squares) - omitted, width, dimension)
    return out
