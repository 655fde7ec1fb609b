"""The compiled E-step over each point's neighbours, without an N x M array.

A pair costs c_ij = W ‖x_i - y_j‖² + a_j with the precision W = 1 / (2σ²) and a_j = -log of the target's weight, at
least 0. The responsibilities are r_ij = exp(-c_ij) / z_i with z_i = Σ_k exp(-c_ik) + β, where β is the weight of the
outlier bin, 0 for none. Terms below exp(-cutoff) of a lower bound of z_i, its largest term or β, are left out: the
omitted mass of a row is less than M·exp(-cutoff) of the row. A point's neighbours come from a grid; with no bin the
search widens until it has the nearest target and all whose terms are not cut off.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import always_inline, compiled, ordered
from ..slices import ROW_PAIRS
from .cells import AXES, ONE_CELL, Cells, cell_of

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

UNMATCHED = -1
# The usual cost of a point's nearest target. If it is more, the neighbours are searched a second time.
USUAL_LEAST = 4.0
_LOG2_E = 1.4426950408889634
# Cody-Waite: log 2 as a sum of two. The first has 33 significant bits, so its products with integers below 2^20 are
# exact, with and without fused multiply-add.
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
# exp(r) ≈ 1 + r + r² Σ_k c_k r^(k-2) on |r| <= log(2) / 2 with a relative error of 1.6e-17: the sum interpolates
# (exp(r) - 1 - r) / r² at the ten Chebyshev nodes.
_C2, _C3, _C4 = 0.5000000000000001, 0.16666666666666669, 0.041666666666624164
_C5, _C6, _C7 = 0.008333333333330065, 0.0013888888917196719, 0.00019841269863040545
_C8, _C9 = 2.4801521322368692e-05, 2.7557268480310024e-06
_C10, _C11 = 2.7620075879983367e-07, 2.5100375832561234e-08


class EStep(NamedTuple):
    """The E-step of N points."""

    mass: Float64  # (N,) Σ_j r_ij; the rest is the outlier bin's
    weighted_target: Float64  # (P, N) Σ_j r_ij y_j
    residual: Float64  # (N,) Σ_j r_ij ‖x_i - y_j‖²
    evidence: Float64  # (N,) log z_i, in nats
    best: Int64  # (N,) argmax_j r_ij, the first among equals; UNMATCHED if none is in reach
    peak: Float64  # (N,) max_j r_ij


def empty_e_step(rank: int, count: int) -> EStep:
    """Uninitialised arrays for the E-step of `count` points in P = `rank` coordinates."""
    one = (np.empty(count) for _ in range(4))
    mass, residual, evidence, peak = one
    return EStep(mass, np.empty((rank, count)), residual, evidence, np.empty(count, np.int64), peak)


@ordered
def exp_of(x: float) -> float:
    """exp(max(x, -700)) for x <= 0, with a relative error below 3e-16.

    Arithmetic only, so that loops vectorise: 2^k exp(r) with |r| <= log(2) / 2. The even and the odd powers of r are
    summed apart, in two chains that run side by side.
    """
    x = max(x, -700.0)
    k = np.floor(x * _LOG2_E + 0.5)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    square = r * r
    even = (((_C10 * square + _C8) * square + _C6) * square + _C4) * square + _C2
    odd = (((_C11 * square + _C9) * square + _C7) * square + _C5) * square + _C3
    p = (odd * r + even) * square + r + 1.0
    return p * np.int64((np.int64(k) + 1023) << 52).view(np.float64)  # type: ignore[no-any-return]


@always_inline
def least_of(values: Float64, count: int) -> float:
    """The least of the first `count` of `values` (M,), which must not be negative.

    Such numbers have the order of their bits as integers, and the minimum of integers vectorises.
    """
    bits = values.view(np.int64)
    least = np.int64(np.iinfo(np.int64).max)
    for j in range(count):
        least = min(least, bits[j])
    return np.int64(least).view(np.float64)


@always_inline
def squares_from(x: Float64, i: int, y: Float64, out: Float64) -> None:
    """The squared distances `out` (M,) from x_i to all of `y` (P, M), P >= 3."""
    a, b, c = x[0, i], x[1, i], x[2, i]
    for j in range(y.shape[1]):
        u, v, w = a - y[0, j], b - y[1, j], c - y[2, j]
        out[j] = u * u + v * v + w * w
    for d in range(3, y.shape[0]):
        for j in range(y.shape[1]):
            other = x[d, i] - y[d, j]
            out[j] += other * other


@always_inline
def neighbours(
    x: Float64, i: int, grid: Cells, reach: float, index: NDArray[np.int32], distance: Float64
) -> tuple[int, int]:
    """Write the targets within the squared distance `reach` of x_i into `index` and `distance` (M,), which is squared.

    `x` is (P, N). Returns their number, and the number of targets that were visited.
    """
    y, starts, low, side, shape = grid.points, grid.starts, grid.low, grid.side, grid.shape
    rank = x.shape[0]
    a, b, c = x[0, i], x[1, i], x[2, i]
    found = 0
    radius = math.sqrt(reach)
    first_y, last_y = cell_of(b - radius, low[1], side, shape[1]), cell_of(b + radius, low[1], side, shape[1])
    first_z, last_z = cell_of(c - radius, low[2], side, shape[2]), cell_of(c + radius, low[2], side, shape[2])
    seen = 0
    for cz in range(first_z, last_z + 1):
        # The distance to a row of cells; the outermost ones reach to infinity.
        gap_z = 0.0
        if cz > 0:
            gap_z = max(gap_z, low[2] + cz * side - c)
        if cz < shape[2] - 1:
            gap_z = max(gap_z, c - (low[2] + (cz + 1) * side))
        for cy in range(first_y, last_y + 1):
            gap_y = 0.0
            if cy > 0:
                gap_y = max(gap_y, low[1] + cy * side - b)
            if cy < shape[1] - 1:
                gap_y = max(gap_y, b - (low[1] + (cy + 1) * side))
            left = reach - gap_y * gap_y - gap_z * gap_z
            if left < 0:
                continue
            half = math.sqrt(left)
            row = (cz * shape[1] + cy) * shape[0]
            begin = starts[row + cell_of(a - half, low[0], side, shape[0])]
            end = starts[row + cell_of(a + half, low[0], side, shape[0]) + 1]
            seen += end - begin
            for j in range(begin, end):
                u, v, w = a - y[0, j], b - y[1, j], c - y[2, j]
                square = u * u + v * v + w * w
                for d in range(3, rank):
                    other = x[d, i] - y[d, j]
                    square += other * other
                # Every candidate is written, and advancing the count keeps it: there is no branch to mispredict.
                index[found] = j
                distance[found] = square
                found += square <= reach
    return found, seen


@always_inline
def all_targets(x: Float64, i: int, grid: Cells, index: NDArray[np.int32], distance: Float64) -> int:
    """`neighbours` with an unlimited reach: all M targets."""
    count = grid.points.shape[1]
    squares_from(x, i, grid.points, distance)
    for j in range(count):
        index[j] = j
    return int(count)


@always_inline
def weigh(
    x: Float64,
    i: int,
    grid: Cells,
    offset: Float64,
    precision: float,
    bin_weight: float,
    cutoff: float,
    index: NDArray[np.int32],
    distance: Float64,
    weight: Float64,
) -> tuple[int, float, float, int]:
    """Write the pairs of x_i that are not cut off: `index`, squared `distance`, and `weight` = r_ij, each (M,).

    `x` is (P, N). `offset` (M,) are the a_j in the grid's order, or empty for zeros. Returns the number of pairs,
    log z_i, max_j r_ij, and the number of targets visited, as work for `slices`.
    """
    single = len(grid.starts) == ONE_CELL
    # Beyond `farthest` all terms are cut off relative to the bin. Most points have a much nearer target, which cuts off
    # more.
    farthest = (cutoff - math.log(bin_weight)) / precision if bin_weight > 0 else np.inf
    reach = min((cutoff + USUAL_LEAST) / precision, farthest)
    work = ROW_PAIRS
    while True:
        if single:
            found = seen = all_targets(x, i, grid, index, distance)
        else:
            found, seen = neighbours(x, i, grid, max(reach, 0.0), index, distance)
        work += seen * x.shape[0] // AXES
        least = np.inf
        if len(offset) > 0:
            for k in range(found):
                weight[k] = distance[k] * precision + offset[index[k]]
                least = min(least, weight[k])
        else:
            for k in range(found):
                weight[k] = distance[k] * precision
                least = min(least, weight[k])
        if single or reach >= farthest or (found > 0 and least + cutoff <= reach * precision):
            break
        if seen == grid.points.shape[1] and (found == grid.points.shape[1] or not reach < np.inf):
            break
        reach = min(reach * 4 if found == 0 else (least + cutoff) / precision * (1 + 1e-12), farthest)
    if found == 0:
        return 0, math.log(bin_weight), 0.0, work
    # Relative to the largest term, which may be the bin's.
    base = min(least, -math.log(bin_weight)) if bin_weight > 0 else least
    total = 0.0
    for k in range(found):
        weight[k] = exp_of(base - weight[k])
        total += weight[k]
    if bin_weight > 0:
        total += math.exp(base + math.log(bin_weight))
    for k in range(found):
        weight[k] /= total
    return found, math.log(total) - base, exp_of(base - least) / total, work


@compiled
def _expect_dense(
    x: Float64,
    grid: Cells,
    offset: Float64,
    payload: Float64,
    precision: float,
    bin_weight: float,
    out: EStep,
    columns: Float64,
    distance: Float64,
    weight: Float64,
    first_row: int,
    last_row: int,
) -> None:
    """`expect_rows` over all pairs, for targets in a single cell: loops without an index, which vectorise."""
    size = grid.points.shape[1]
    for i in range(first_row, last_row):
        squares_from(x, i, grid.points, distance)
        if len(offset) > 0:
            for j in range(size):
                weight[j] = distance[j] * precision + offset[j]
        else:
            for j in range(size):
                weight[j] = distance[j] * precision
        least = least_of(weight, size)
        best = 0
        while best < size - 1 and weight[best] > least:
            best += 1
        base = min(least, -math.log(bin_weight)) if bin_weight > 0 else least
        total, residual = 0.0, 0.0
        first, second, third = 0.0, 0.0, 0.0
        for j in range(size):
            r = exp_of(base - weight[j])
            weight[j] = r
            total += r
            residual += r * distance[j]
            first += r * payload[0, j]
            second += r * payload[1, j]
            third += r * payload[2, j]
        mass = total
        if bin_weight > 0:
            total += math.exp(base + math.log(bin_weight))
        out.weighted_target[0, i], out.weighted_target[1, i], out.weighted_target[2, i] = (
            first / total,
            second / total,
            third / total,
        )
        for d in range(3, payload.shape[0]):
            weighted_target = 0.0
            for j in range(size):
                weighted_target += weight[j] * payload[d, j]
            out.weighted_target[d, i] = weighted_target / total
        if len(columns) > 0:
            for j in range(size):
                columns[j] += weight[j] / total
        out.mass[i], out.residual[i], out.peak[i] = mass / total, residual / total, exp_of(base - least) / total
        out.evidence[i], out.best[i] = math.log(total) - base, best


@compiled
def expect_rows(
    x: Float64,
    grid: Cells,
    offset: Float64,
    payload: Float64,
    precision: float,
    bin_weight: float,
    cutoff: float,
    out: EStep,
    columns: Float64,
    first: int,
    pairs: int,
) -> tuple[int, int]:
    """The E-step of `x` (P, N) against the targets in `grid`, into `out`, of the rows from `first` on.

    `payload` (P, M), P >= 3, in the grid's order, is what `out.weighted_target` sums: the grid's points, or those
    points before they were moved. Σ_i r_ij is added to `columns` (M,), in the grid's order; empty for none.

    It stops once it has visited about `pairs` pairs, after at least one row. Returns the next row, N at the end, and
    how many of `pairs` are left. No number depends on where it stops.
    """
    count, size = x.shape[1], grid.points.shape[1]
    index = np.empty(size, np.int32)
    distance, weight = np.empty(size), np.empty(size)
    if len(grid.starts) == ONE_CELL:
        row = size * x.shape[0] // AXES + ROW_PAIRS
        last = first + min(max(pairs // row, 1), count - first)
        _expect_dense(x, grid, offset, payload, precision, bin_weight, out, columns, distance, weight, first, last)
        return last, pairs - (last - first) * row
    for i in range(first, count):
        found, evidence, peak, work = weigh(x, i, grid, offset, precision, bin_weight, cutoff, index, distance, weight)
        mass, residual, largest = 0.0, 0.0, 0.0
        for k in range(found):
            mass += weight[k]
            residual += weight[k] * distance[k]
            largest = max(largest, weight[k])
        for d in range(payload.shape[0]):
            weighted_target = 0.0
            for k in range(found):
                weighted_target += weight[k] * payload[d, index[k]]
            out.weighted_target[d, i] = weighted_target
        best = UNMATCHED
        for k in range(found):
            if weight[k] == largest:
                j = grid.order[index[k]]
                if best == UNMATCHED or j < best:
                    best = j
        if len(columns) > 0:
            for k in range(found):
                columns[index[k]] += weight[k]
        out.mass[i], out.residual[i], out.evidence[i], out.best[i], out.peak[i] = mass, residual, evidence, best, peak
        pairs -= work
        if pairs <= 0:
            return i + 1, pairs
    return count, pairs
