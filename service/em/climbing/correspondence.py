"""The matching after the last E-step, its probabilities, and R itself if the caller asks for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..cancellation import Poll
from ..coordinates import Frame
from ..jit import compiled
from ..kernel.cells import Cells
from ..kernel.fitting import Sums, fit
from ..kernel.truncated import UNMATCHED, weigh
from ..matching import DENSE_PAIRS, cost_of_none, one_to_one, one_to_one_sparse
from ..problem import Problem
from ..slices import blocks, in_slices
from .known_pairs import KnownPairs

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# For large clouds, the one-to-one matching considers this many of a point's likeliest targets, and only those with at
# least e^-FAINT of the largest likelihood.
PARTNERS = 24
FAINT = 16.0
# The work of sorting a pair, in pairs.
SORTED_PAIRS = 16
# The rounding of larger exponents is more than a millionth of the responsibilities.
ROUGH = 1e9


class Correspondence(NamedTuple):
    """The correspondence of each source point."""

    match: Int64  # (N,) the target, or UNMATCHED
    probability: Float64  # (N,) r_i,match(i), 0 if unmatched
    unmatched_probability: Float64  # (N,) probability that the point is unmatched
    responsibilities: Float64 | None  # (N, M)

    def in_caller_order(self, points: Frame) -> Correspondence:
        """The same in the caller's order of the points."""
        if not points.reordered:
            return self
        match = np.where(self.match == UNMATCHED, UNMATCHED, points.target_order[self.match])
        R = self.responsibilities
        if R is not None:
            R = np.empty_like(R)
            R[np.ix_(points.source_order, points.target_order)] = self.responsibilities
        return Correspondence(
            points.in_caller_order(match),
            points.in_caller_order(self.probability),
            points.in_caller_order(self.unmatched_probability),
            R,
        )


class View(NamedTuple):
    """The last E-step as rows of the source: r_ij = f_i exp(-W ‖x_i - y_j‖² - a_j)."""

    moved: Float64  # (P, N) x
    grid: Cells  # over the targets
    offset: Float64  # (M,) a in the order of the targets, its minimum 0; empty for zeros
    precision: float  # W
    log_factor: Float64  # (N,) log f_i
    best: Int64  # (N,) argmax_j r_ij, or UNMATCHED if no target is in reach
    peak: Float64  # (N,) its r
    mass: Float64  # (N,) Σ_j r_ij
    bin_weight: float  # β: the weight of being unmatched, relative to exp(-W ‖x_i - y_j‖²)
    cutoff: float
    # The terms of -log(Π_ij 𝒩_ij) beside W ‖x_i - y_j‖², up to a constant.
    source_cost: Float64 | None = None  # (N,)
    target_cost: Float64 | None = None  # (M,) in the order of the targets
    dense: Float64 | None = None  # (N, M) R itself, if the prior is a matrix
    pairs: KnownPairs | None = None


def correspondence(problem: Problem, view: View, poll: Poll) -> Correspondence:
    """The matching of the kind `problem.matching`.

    With an outlier bin, a point is matched if its outlier probability is at most 1/2. With one_to_one no target is
    matched twice, and without a bin min(N, M) points are matched. `poll` is called before each long part, and may
    raise. The solvers of the assignment cannot be interrupted.
    """
    poll()
    n, m = view.moved.shape[1], len(view.grid.order)
    unmatched_probability = np.clip(1 - view.mass, 0.0, 1.0)
    match, probability = view.best.copy(), np.minimum(view.peak, 1.0)
    responsibilities = None
    if problem.responsibilities or (view.dense is not None and problem.matching == "one_to_one"):
        responsibilities = view.dense if view.dense is not None else _dense(view)
    if problem.matching == "one_to_one":
        match, probability = _one_to_one(view, responsibilities, n, m, poll)
    elif view.bin_weight > 0:
        match[unmatched_probability > 0.5] = UNMATCHED
    probability = np.where(match == UNMATCHED, 0.0, probability)
    return Correspondence(
        match, probability, unmatched_probability, responsibilities if problem.responsibilities else None
    )


def refined(points: Frame, kind: int, transform: Float64, match: Int64, weights: Float64 | None = None) -> Float64:
    """The transform (D, D + 1) of `kind` that fits the matched pairs, with `weights` (N,); None for equal ones.

    `transform` itself if at most D pairs are matched.
    """
    D = points.dimension
    rows = np.flatnonzero(match != UNMATCHED)
    if len(rows) <= D:
        return transform
    p = np.vstack([points.source[:D, rows], np.ones(len(rows))])
    q = points.target[:D, match[rows]]
    if weights is not None:
        return fit(kind, transform, Sums((p * weights[rows]) @ p.T, (p * weights[rows]) @ q.T, 0.0, 0.0))
    return fit(kind, transform, Sums(p @ p.T, np.ascontiguousarray(p @ q.T), 0.0, 0.0))


def _dense(view: View) -> Float64:
    y = _targets(view)
    n, m = view.moved.shape[1], y.shape[1]
    out = np.zeros((n, m))
    for some in blocks(n, m):
        squares = out[some]
        for a, b in zip(view.moved, y, strict=True):
            squares += (a[some, None] - b) ** 2
        squares *= -view.precision
        if len(view.offset):
            squares -= view.offset
        # The rounding of large exponents cancels in those relative to the row's largest, whose r the E-step has found.
        most = squares.max(1)
        rough = np.abs(most) > ROUGH
        squares += np.where(rough, -most, view.log_factor[some])[:, None]
        np.exp(squares, out=squares)
        squares[rough] *= view.peak[some][rough, None]
    if view.pairs is not None:
        view.pairs.settle(out)
    return out


def _one_to_one(view: View, responsibilities: Float64 | None, n: int, m: int, poll: Poll) -> tuple[Int64, Float64]:
    if view.dense is not None and responsibilities is not None:
        with np.errstate(divide="ignore"):
            logs = np.maximum(np.log(responsibilities), -700.0) - view.log_factor[:, None]
        if view.bin_weight > 0:
            # The extra columns, one for each point, stand for being unmatched.
            logs = np.hstack([logs, np.full((n, n), -cost_of_none(view.bin_weight))])
        poll()
        match = one_to_one(logs)
        match[match >= m] = UNMATCHED
        chosen = responsibilities[np.arange(n), np.maximum(match, 0)]
        return match, chosen
    if view.bin_weight == 0 and n * m <= DENSE_PAIRS:
        logs = np.zeros((n, m))
        targets = _targets(view)
        for some in blocks(n, m):
            for x, y in zip(view.moved, targets, strict=True):
                logs[some] -= (x[some, None] - y) ** 2
            logs[some] *= view.precision
            if view.source_cost is not None:
                logs[some] -= view.source_cost[some, None]
            if view.target_cost is not None:
                logs[some] -= view.target_cost
        if view.pairs is not None:
            view.pairs.pin(logs)
        poll()
        match = one_to_one(logs)
    else:
        starts, columns, costs = _pairs(view)
        if view.pairs is not None:
            i, j = view.pairs.source, view.pairs.target
            own = view.precision * ((view.moved[:, i] - _targets(view)[:, j]) ** 2).sum(0)
            own += (0.0 if view.source_cost is None else view.source_cost[i]) + (
                0.0 if view.target_cost is None else view.target_cost[j]
            )
            starts, columns, costs = view.pairs.pin_sparse(starts, columns, costs, own, m)
        none = np.full(n, cost_of_none(view.bin_weight))
        if view.bin_weight == 0:
            # For a point far from all targets, the nearest target is still better than none.
            none = np.maximum.reduceat(np.append(costs, 0.0), starts[:-1]) + none
        poll()
        match = one_to_one_sparse(starts, columns, costs, none, m)
    return match, _probability(view, match)


def _targets(view: View) -> Float64:
    """The targets (P, M) in the order of the frame."""
    out = np.empty_like(view.grid.points)
    out[:, view.grid.order] = view.grid.points
    return out


def _pairs(view: View) -> tuple[Int64, Int64, Float64]:
    """The likeliest targets of each point: the start of its pairs (N + 1,), their j (K,) and their costs (K,)."""
    counts, columns, costs = _likely(view.moved, view.grid, view.precision, view.bin_weight, view.cutoff)
    if view.source_cost is not None:
        costs += view.source_cost[:, None]
    if view.target_cost is not None:
        costs += view.target_cost[columns]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    kept = (np.arange(PARTNERS) < counts[:, None]).ravel()
    return starts, columns.ravel()[kept], costs.ravel()[kept]


def _likely(
    moved: Float64, grid: Cells, precision: float, bin_weight: float, cutoff: float
) -> tuple[Int64, Int64, Float64]:
    """The likeliest targets of each point: their number (N,), j (N, PARTNERS), and costs W ‖x - y‖² (N, PARTNERS)."""
    n = moved.shape[1]
    found = np.zeros(n, np.int64), np.zeros((n, PARTNERS), np.int64), np.zeros((n, PARTNERS))
    arguments = moved, grid, precision, bin_weight, cutoff, *found
    in_slices(n, lambda first, pairs: _likely_rows(*arguments, first, pairs))
    return found


@compiled
def _likely_rows(
    moved: Float64,
    grid: Cells,
    precision: float,
    bin_weight: float,
    cutoff: float,
    counts: Int64,
    columns: Int64,
    costs: Float64,
    first: int,
    pairs: int,
) -> int:
    """`_likely` of the rows from `first` on, until about `pairs` pairs are visited. Returns the next row."""
    size, n = grid.points.shape[1], moved.shape[1]
    index = np.empty(size, np.int32)
    distance, weight = np.empty(size), np.empty(size)
    none = np.empty(0)
    for i in range(first, n):
        found, _, _, work = weigh(moved, i, grid, none, precision, bin_weight, cutoff, index, distance, weight)
        least = np.inf
        for k in range(found):
            least = min(least, distance[k])
        limit = least + FAINT / precision
        if found > PARTNERS:
            work += SORTED_PAIRS * found
            limit = min(limit, np.sort(distance[:found])[PARTNERS - 1])
        kept = 0
        for k in range(found):
            if distance[k] <= limit and kept < PARTNERS:
                columns[i, kept] = grid.order[index[k]]
                costs[i, kept] = distance[k] * precision
                kept += 1
        counts[i] = kept
        pairs -= work
        if pairs <= 0:
            return i + 1
    return int(n)


def _probability(view: View, match: Int64) -> Float64:
    """r_i,match(i) (N,)."""
    j = np.maximum(match, 0)
    logs = view.log_factor - view.precision * ((view.moved - _targets(view)[:, j]) ** 2).sum(0)
    if len(view.offset):
        logs = logs - view.offset[j]
    out = np.asarray(np.exp(np.minimum(logs, 0.0)))
    if view.pairs is not None:
        known = match[view.pairs.source] == view.pairs.target
        out[view.pairs.source[known]] = view.pairs.own[known]
    return out
