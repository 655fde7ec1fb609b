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
from ..kernel.truncated import exp_of, least_of
from ..model import log_root
from .tuning import POINTS, VERDICT

Float64 = NDArray[np.float64]

# The least smooth density, in kernels.
LEAST = 0.1


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


@compiled
def compare(x: Float64, y: Float64, sigma: float, most: int, few: bool) -> Points:
    """Compare the moved source `x` (D, N) with the target `y` (D, M); σ > 0 is that of the answer.

    At most `most` source points are compared. With `few`, only one kernel besides σ is tried, and two smooth ones.
    """
    dimension, n = x.shape
    m = y.shape[1]
    count = min(n, most)
    squares, terms = np.empty(max(n, m)), np.empty(max(n, m))
    spacing, mine = _spacing(y, min(m, most), squares), _spacing(x, count, squares)
    widths = np.empty(2 if few else 1 + len(POINTS.widths))
    widths[0] = sigma
    for k in range(1, len(widths)):
        widths[k] = max(POINTS.widths[k - 1] * spacing, 1e-3 * sigma)
    smooth = np.empty(2 if few else len(POINTS.own))
    for k in range(len(smooth)):
        smooth[k] = (1.0 + k if few else POINTS.own[k]) * max(mine, 1e-3 * sigma)
    wide = max(POINTS.smooth * max(spacing, mine), sigma)
    narrow, own, chance = np.empty((len(widths), count)), np.empty((len(smooth), count)), np.empty(count)
    for a in range(count):
        i = a * n // count
        least = _squares(x, i, y, squares, -1)
        chance[a] = max(_log_kernel(squares, m, least, wide, dimension, terms), _floor(m, wide, dimension))
        for k in range(len(widths)):
            narrow[k, a] = _log_kernel(squares, m, least, widths[k], dimension, terms)
        if n > 1:
            least = _squares(x, i, x, squares, i)
        for k in range(len(smooth)):
            if n > 1:
                density = _log_kernel(squares, n, least, smooth[k], dimension, terms)
                own[k, a] = max(density, _floor(n, smooth[k], dimension))
            else:
                own[k, a] = chance[a]
    best, highest = 0, -np.inf
    for k in range(len(smooth)):
        total = own[k].sum()
        if total > highest:
            best, highest = k, total
    chance = np.maximum(chance, own[best])
    top, at, share, deviation = -np.inf, 0, 1.0, 0.0
    for k in range(len(widths)):
        evidence, spread, unmatched = _profile(narrow[k] - chance, terms)
        if evidence > top:
            top, at, share, deviation = evidence, k, unmatched, spread
    matched, residual, pull = _pairs(x, y, narrow[at] - chance, widths[at], share, squares, terms)
    reach = widths[at] ** 2 * (dimension + 4 * math.sqrt(2.0 * dimension))
    forth, back = _reached(x, y, count, reach, squares), _reached(y, x, min(m, most), reach, squares)
    target = min(matched * back / max(forth, 1e-9), 1.0)
    return Points(top, deviation, count, share, widths[at], matched, residual, pull, target, _extent(y))


@compiled
def _squares(x: Float64, i: int, y: Float64, out: Float64, omitted: int) -> float:
    """Write the squared distances from x_i to all of `y` into `out`, and return the least. One point may be omitted."""
    size = y.shape[1]
    for j in range(size):
        out[j] = 0.0
    for d in range(y.shape[0]):
        a = x[d, i]
        for j in range(size):
            u = a - y[d, j]
            out[j] += u * u
    if omitted >= 0:
        out[omitted] = 1e300
    return least_of(out, size)


@compiled
def _log_kernel(squares: Float64, size: int, least: float, width: float, dimension: int, terms: Float64) -> float:
    """The logarithm of the mean density of Gaussians of this width at these squared distances."""
    precision = 0.5 / (width * width)
    for j in range(size):
        terms[j] = exp_of((least - squares[j]) * precision)
    total = 0.0
    for j in range(size):
        total += terms[j]
    return math.log(total / size) - least * precision - dimension * log_root(width)


@compiled
def _extent(y: Float64) -> float:
    """The standard deviation of a coordinate of `y` (D, M)."""
    total = 0.0
    for d in range(y.shape[0]):
        mean = y[d].sum() / y.shape[1]
        for j in range(y.shape[1]):
            total += (y[d, j] - mean) ** 2
    return math.sqrt(total / y.size)


@compiled
def _floor(size: int, width: float, dimension: int) -> float:
    """The least logarithm of a smooth density, so that a point that is far from all others is no evidence."""
    return math.log(LEAST / size) - dimension * log_root(width)


@compiled
def _spacing(y: Float64, count: int, squares: Float64) -> float:
    """The median distance from a point to its nearest neighbour, of `count` points; 0 for a single point."""
    size = y.shape[1]
    if size < 2:
        return 0.0
    found = np.empty(count)
    for a in range(count):
        i = a * size // count
        found[a] = _squares(y, i, y, squares, i)
    return math.sqrt(np.median(found))


@compiled
def _profile(ratios: Float64, odds: Float64) -> tuple[float, float, float]:
    """max_w mean log((1 - w) exp(r) + w), the standard deviation of its terms, and w, by EM."""
    count, share = len(ratios), 0.3
    for a in range(count):
        odds[a] = math.exp(min(ratios[a], 500.0))
    for _ in range(POINTS.rounds):
        total = 0.0
        for a in range(count):
            total += share / ((1 - share) * odds[a] + share)
        share = min(max(total / count, POINTS.unmatched[0]), POINTS.unmatched[1])
    evidence, square = 0.0, 0.0
    for a in range(count):
        term = math.log((1 - share) * odds[a] + share)
        evidence += term
        square += term * term
    evidence /= count
    return evidence, math.sqrt(max(square / count - evidence**2, 0.0)), share


@compiled
def _pairs(
    x: Float64, y: Float64, ratios: Float64, width: float, unmatched: float, squares: Float64, terms: Float64
) -> tuple[float, float, float]:
    """The matched share of the compared points, and their root mean square and their mean difference."""
    dimension, n = x.shape
    m, count = y.shape[1], len(ratios)
    precision = 0.5 / (width * width)
    mean = np.zeros(dimension)
    matched, square = 0.0, 0.0
    for a in range(count):
        i = a * n // count
        odds = (1 - unmatched) * math.exp(min(ratios[a], 500.0))
        probability = odds / (odds + unmatched)
        if probability < 1e-3:
            continue
        least = _squares(x, i, y, squares, -1)
        total, sum_of_squares = 0.0, 0.0
        for j in range(m):
            terms[j] = exp_of((least - squares[j]) * precision)
            total += terms[j]
            sum_of_squares += terms[j] * squares[j]
        for d in range(dimension):
            partner = 0.0
            for j in range(m):
                partner += terms[j] * y[d, j]
            mean[d] += probability * (partner / total - x[d, i])
        matched += probability
        square += probability * sum_of_squares / total
    if matched == 0:
        return 0.0, 0.0, 0.0
    pull = 0.0
    for d in range(dimension):
        pull += (mean[d] / matched) ** 2
    return matched / count, math.sqrt(square / matched), math.sqrt(pull)


@compiled
def _reached(x: Float64, y: Float64, count: int, reach: float, squares: Float64) -> float:
    """The share of `count` points of `x` that have a point of `y` within the squared distance `reach`."""
    n, found = x.shape[1], 0
    for a in range(count):
        found += _squares(x, a * n // count, y, squares, -1) <= reach
    return found / count


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
