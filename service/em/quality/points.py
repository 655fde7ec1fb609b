"""Point by point: do source points lie on target points more often than chance explains?

Under the hypothesis of chance a moved source point x is drawn from f, a smooth density of its surroundings; under the
other one it is drawn from f with probability w, else from the target through a narrow kernel:

    e = max_{w,σ} mean_i log((1 - w) g_i/f_i + w),   g_i = (1/M) Σ_j N(x_i; q_j, σ² I)

f is the larger of two densities: that of the other source points, with the width that predicts them best
(cross-validation by leaving one out, Habbema et al. 1974), and that of the target through a wide kernel. Unrelated
clouds score about 0, whatever their outlines. N e less the logarithm of the number of distinguishable transforms is the
log-odds against chance, as in Schwarz's criterion (1978).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.cells import AXES, ONE_CELL, ONE_CELL_SIDE, Cells, cells
from ..kernel.truncated import exp_of, least_of, neighbours, squares_from
from .evidence import profile
from .kernels import kernel, log_density, log_smooth, narrow_kernels, wide_kernels, within
from .tuning import POINTS, VERDICT

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]

# Kernels of the source's own density, with ratios of √2, and those of the target, with ratios of 2.
OWN, NARROW = 5, 5
# Standard deviations within which a grid finds the points of a kernel, and of a narrow one.
REACH, NARROW_REACH = 4.0, 6.0


class Points(NamedTuple):
    """How well the points agree."""

    evidence: float  # e, nats for each source point
    deviation: float  # the standard deviation of its terms
    compared: int  # source points that were compared
    unmatched: float  # w there
    width: float  # σ there
    matched: float  # expected share of source points with a partner
    residual: float  # root mean square distance of matched points from their partners
    pull: float  # length of the mean of these differences
    target: float  # share of the target with a partner
    extent: float  # standard deviation of a coordinate of the target


def in_cells(points: Float64) -> Cells:
    """A cloud (P, N) in the cells that `compare` takes: one cell for a small cloud."""
    count = points.shape[1]
    if count > POINTS.dense:
        extent = float(np.median(np.abs(points[:, :: count // POINTS.sample]).max(0)))
        return cells(points, POINTS.side * extent / math.sqrt(count))
    return Cells(points, np.arange(count), np.array([0, count]), np.zeros(AXES), ONE_CELL_SIDE, np.ones(AXES, np.int64))


@compiled
def compare(x: Float64, y: Float64, source: Cells, target: Cells, dimension: int, sigma: float, most: int) -> Points:
    """Compare the moved source `x` (P, N) with the target `y` (P, M), P >= 3; σ > 0 is that of the answer.

    `source` and `target` are the same clouds in cells. The evidence is that of at most `most` source points.
    """
    n, m = x.shape[1], y.shape[1]
    count, size = min(n, most), max(n, m)
    index, squares = np.empty(size, np.int32), np.empty(size)
    apart, mine = spacing(y, min(m, most), target), spacing(x, count, source)
    # σ itself is one of the widths unless it is much smaller than they are.
    blur = max(max(apart, mine) * POINTS.smooth, 1e-3 * sigma)
    wide = sigma * 2.0 ** max(round(math.log2(blur / sigma)), 0)
    extra, widest = sigma < wide / 2 ** (NARROW - 1), POINTS.own * max(mine, 1e-3 * sigma)
    narrow, own, chance = np.full((NARROW + 1, count), -np.inf), np.empty((OWN, count)), np.empty(count)
    sums, reach = np.empty(5), (REACH * wide) ** 2
    for a in range(count):
        i = a * n // count
        found = within(x, i, target, reach, index, squares)
        narrow_kernels(squares, found, wide, sums)
        chance[a] = log_smooth(sums[0], m, wide, dimension)
        for k in range(1, NARROW):
            narrow[k, a] = log_density(sums[k], m, wide / 2**k, dimension)
        if extra:
            narrow[NARROW, a] = log_density(kernel(squares, found, sigma), m, sigma, dimension)
        found = within(x, i, source, (REACH * widest) ** 2, index, squares)
        wide_kernels(squares, found, widest, sums)
        for k in range(OWN):
            # The point itself counts one kernel.
            own[k, a] = log_smooth(sums[k] - 1, n, widest / math.sqrt(2.0) ** k, dimension) if n > 1 else chance[a]
    best, highest = 0, -np.inf
    for k in range(OWN):
        total = own[k].sum()
        if total > highest:
            best, highest = k, total
    chance = np.maximum(chance, own[best])
    top, at, share, deviation, terms = -np.inf, 0, 1.0, 0.0, np.empty(count)
    for k in range(1 if sigma >= wide / 2 else 2, NARROW + extra):
        evidence, spread, unmatched = profile(narrow[k] - chance, terms)
        if evidence > top:
            top, at, share, deviation = evidence, k, unmatched, spread
    width = sigma if at == NARROW else wide / 2**at
    matched, residual, pull = _pairs(x, target, dimension, narrow[at] - chance, width, share, index, squares)
    near = width**2 * (dimension + 4 * math.sqrt(2.0 * dimension))
    forth = reached(x, count, target, near)
    every = reached(x, min(n, POINTS.overlap), target, near)
    back = reached(y, min(m, POINTS.overlap), source, near)
    ratio = matched / max(forth, 1e-9)
    matched, other = min(ratio * every, 1.0), min(ratio * back, 1.0)
    return Points(top, deviation, count, share, width, matched, residual, pull, other, extent(y, dimension))


@compiled
def extent(y: Float64, dimension: int) -> float:
    """The standard deviation of a coordinate of `y` (P, M)."""
    total = 0.0
    for d in range(dimension):
        mean = y[d].sum() / y.shape[1]
        for j in range(y.shape[1]):
            total += (y[d, j] - mean) ** 2
    return math.sqrt(total / (dimension * y.shape[1]))


@compiled
def spacing(y: Float64, count: int, grid: Cells) -> float:
    """The median distance from a point to its nearest neighbour, of `count` points; 0 for a single point.

    `grid` has the same points.
    """
    size = y.shape[1]
    if size < 2:
        return 0.0
    index, squares = np.empty(size, np.int32), np.empty(size)
    found = np.empty(count)
    single = len(grid.starts) == ONE_CELL
    for a in range(count):
        i = a * size // count
        if single:
            squares_from(y, i, grid.points, squares)
            squares[i] = 1e300
            found[a] = least_of(squares, size)
            continue
        reach = grid.side**2
        while True:
            near, seen = neighbours(y, i, grid, reach, index, squares)
            if near > 1 or (seen == size and not reach < np.inf):
                break
            reach = 4 * reach if seen < size else np.inf
        found[a] = 1e300
        for k in range(near):
            if grid.order[index[k]] != i:
                found[a] = min(found[a], squares[k])
    return math.sqrt(np.median(found))


@compiled
def _pairs(
    x: Float64,
    grid: Cells,
    dimension: int,
    ratios: Float64,
    width: float,
    unmatched: float,
    index: Int32,
    squares: Float64,
) -> tuple[float, float, float]:
    """The matched share of the compared points, and their root mean square and their mean difference."""
    n, count = x.shape[1], len(ratios)
    precision, reach = 0.5 / (width * width), (NARROW_REACH * width) ** 2
    mean, partner = np.zeros(dimension), np.zeros(dimension)
    matched, square = 0.0, 0.0
    for a in range(count):
        i = a * n // count
        odds = (1 - unmatched) * math.exp(min(ratios[a], 500.0))
        probability = odds / (odds + unmatched)
        if probability < 1e-3:
            continue
        found, single = within(x, i, grid, reach, index, squares), len(grid.starts) == ONE_CELL
        total, sum_of_squares = 0.0, 0.0
        partner[:] = 0.0
        for k in range(found):
            if squares[k] > reach:
                continue
            j = k if single else index[k]
            weight = exp_of(-squares[k] * precision)
            total += weight
            sum_of_squares += weight * squares[k]
            for d in range(dimension):
                partner[d] += weight * grid.points[d, j]
        if total == 0:
            continue
        for d in range(dimension):
            mean[d] += probability * (partner[d] / total - x[d, i])
        matched += probability
        square += probability * sum_of_squares / total
    if matched == 0:
        return 0.0, 0.0, 0.0
    pull = 0.0
    for d in range(dimension):
        pull += (mean[d] / matched) ** 2
    return matched / count, math.sqrt(square / matched), math.sqrt(pull)


@compiled
def reached(x: Float64, count: int, grid: Cells, reach: float) -> float:
    """The share of `count` points of `x` that have a point of the grid within the squared distance `reach`."""
    n, size, near = x.shape[1], grid.points.shape[1], 0
    index, squares = np.empty(size, np.int32), np.empty(size)
    single = len(grid.starts) == ONE_CELL
    for a in range(count):
        i = a * n // count
        if single:
            squares_from(x, i, grid.points, squares)
            near += least_of(squares, size) <= reach
        else:
            near += neighbours(x, i, grid, reach, index, squares)[0] > 0
    return near / count


def log_odds(found: Points, count: int, numbers: float) -> float:
    """The log-odds against chance of a transform with this many `numbers`, for `count` source points.

    Each number costs the logarithm of the ratio of the target's extent to the standard error that the matched points
    leave.
    """
    error = found.width / math.sqrt(max(count * (1 - found.unmatched), 1.0))
    # If only a sample of the points was compared, the evidence of the others is not certain.
    unsure = found.deviation * math.sqrt(max(1 / found.compared - 1 / count, 0.0))
    return count * (found.evidence - 2 * unsure) - numbers * math.log(max(found.extent / error, 1.0))


def clear(found: Points, odds: float, count: int) -> bool:
    """Whether the evidence of `count` source points is clear.

    The points of large clouds are correlated, so that their log-odds alone would be too large: a sample of them must be
    sure, too.
    """
    few = found.unmatched > VERDICT.unmatched_of_few
    if odds < (VERDICT.clear_of_few if few else VERDICT.clear):
        return False
    errors = found.evidence * math.sqrt(found.compared) / max(found.deviation, 1e-12)
    return count < VERDICT.large or errors >= VERDICT.point_errors
