"""A cloud in the cells of a grid, its patches, and its density if each point stands for a disc."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.cells import AXES, Cells, cells
from ..kernel.least_axis import least_axis
from ..kernel.spacing import spacing_between
from ..kernel.truncated import exp_of, neighbours, squares_from
from ..model import log_root
from ..slices import blocks
from .kernels import kernel, log_smooth
from .tuning import SURFACE

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

# The factor by which the squared radius of a neighbourhood grows until it has enough points.
GROWTH = 1.8
# Spacings that a cell of the grid is wide, and widths of a disc along it within which a point is compared with it.
SIDE, REACH = 2.0, 4.0


class Cloud(NamedTuple):
    """A cloud in random order, and in the cells of a grid."""

    points: Float64  # (P, K)
    grid: Cells
    spacing: float  # median distance between neighbours


class Patches(NamedTuple):
    """The neighbourhoods of n points."""

    normals: Float64  # (P, n) unit vectors of the least variance
    flat: Bool  # (n,) whether that variance is much less than the others
    wide: Bool  # (n,) whether the neighbours spread in all other directions, and not along a line alone
    edge: Bool  # (n,) whether the neighbours lie to one side

    def at(self, index: Int64) -> Patches:
        """Those of some of the points."""
        return Patches(np.take(self.normals, index, 1), self.flat[index], self.wide[index], self.edge[index])


def in_grid(points: Float64, dimension: int) -> Cloud:
    """A cloud (P, K) in random order."""
    spacing = spacing_between(points, dimension)
    return Cloud(points, cells(points, SIDE * spacing), spacing)


def patches(cloud: Cloud, of: Int64, dimension: int) -> Patches:
    """The patches about some points (n,) of the grid."""
    radius = SURFACE.radius * cloud.spacing
    found = [
        _patches(cloud.grid, of[some], dimension, SURFACE.patch, radius)
        for some in blocks(len(of), cloud.points.shape[1])
    ]
    normals, variances, lean = (np.concatenate(parts, -1) for parts in zip(*found, strict=True))
    return Patches(
        normals,
        variances[0] < SURFACE.flat * variances[1],
        variances[1] >= SURFACE.wide * variances[-1],
        lean > SURFACE.one_sided,
    )


@compiled
def _patches(grid: Cells, of: Int64, dimension: int, most: int, radius: float) -> tuple[Float64, Float64, Float64]:
    """The axes of least variance (P, n) of the `most` nearest points to each, their variances (D, n), and their lean.

    The variances are in rising order. The lean (n,) is the distance from the point to the mean of its neighbours, in
    distances of the farthest of them. The search for these begins within `radius`.
    """
    rows, size = grid.points.shape
    count, most, D = len(of), min(most, size), dimension
    index, squares = np.empty(size, np.int32), np.empty(size)
    chosen, least = np.empty(most, np.int32), np.empty(most)
    normals, variances, lean = np.zeros((rows, count)), np.empty((D, count)), np.zeros(count)
    mean, covariance = np.empty(AXES), np.empty((AXES, AXES))
    for a in range(count):
        i, reach = of[a], radius * radius
        while True:
            found, _ = neighbours(grid.points, i, grid, reach, index, squares)
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
        mean[:], covariance[:] = 0.0, 0.0
        for k in range(most):
            for d in range(D):
                off = grid.points[d, chosen[k]] - grid.points[d, i]
                mean[d] += off / most
                for e in range(d + 1):
                    covariance[d, e] += off * (grid.points[e, chosen[k]] - grid.points[e, i]) / most
        for d in range(D):
            lean[a] += mean[d] ** 2
            for e in range(d + 1):
                covariance[d, e] -= mean[d] * mean[e]
        lean[a] = math.sqrt(lean[a] / max(least[most - 1], 1e-300))
        xx, yy, zz = covariance[0, 0], covariance[1, 1], covariance[2, 2]
        zz += xx + yy if D == 2 else 0.0
        u, v, w, variances[0, a], variances[1, a], largest = least_axis(
            xx, yy, zz, covariance[1, 0], covariance[2, 0], covariance[2, 1]
        )
        normals[0, a], normals[1, a] = u, v
        if D > 2:
            normals[2, a], variances[2, a] = w, largest
    return normals, variances, lean


def nearest(x: Float64, grid: Cells, limit: float) -> tuple[Float64, Int64]:
    """The distances (n,) from `x` (P, n) to the nearest points of the grid, and the indices of these there.

    The distance is infinite if no point is within about `limit`.
    """
    # Far outliers make the cells so large that a point may visit all others.
    found = [
        _nearest(np.ascontiguousarray(x[:, some]), grid, limit) for some in blocks(x.shape[1], grid.points.shape[1])
    ]
    distance, index = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return distance, index


@compiled
def _nearest(x: Float64, grid: Cells, limit: float) -> tuple[Float64, Int64]:
    """`nearest` of a few points."""
    count, size = x.shape[1], grid.points.shape[1]
    index, squares = np.empty(size, np.int32), np.empty(size)
    distance, out = np.empty(count), np.empty(count, np.int64)
    for i in range(count):
        reach = grid.side**2
        while True:
            found, seen = neighbours(x, i, grid, reach, index, squares)
            if found > 0 or not reach < limit * limit:
                break
            reach = min(4 * reach if seen < size else np.inf, limit * limit)
        least, at = np.inf, 0
        for k in range(found):
            if squares[k] < least:
                least, at = squares[k], k
        distance[i], out[i] = math.sqrt(least), index[at] if found > 0 else 0
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
