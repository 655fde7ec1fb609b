"""Annealing of a small problem from a trusted start, compiled as a whole.

The robust steps are those of `annealing`, without its acceleration, thinning and scores. A few hundred points near the
right pose need none of them, and the interpreter would take longer than the arithmetic.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.cells import AXES, ONE_CELL, ONE_CELL_SIDE, Cells, corners, sorted_cells
from ..kernel.fitting import (
    Sums,
    assign,
    fit,
    move,
    residual_after,
    rotation,
    sums_of_columns,
    sums_of_rows,
)
from ..kernel.single_precision import FEW_TARGETS
from ..kernel.single_precision import expect as expect_in_single_precision
from ..kernel.truncated import EStep, expect_rows
from ..kinds import ROTATES, SCALES
from .tuning import DESCENT

Float64 = NDArray[np.float64]


class Descent(NamedTuple):
    """The state of a descent, from which it goes on."""

    transform: Float64  # (D, D + 1)
    before: Float64  # (D, D + 1) the last step, if the series goes on
    width: float
    estimate: float  # of the width, from the residuals
    inliers: float  # the share of the data with a partner
    grid: Cells  # of the targets
    side: float  # that was wanted for its cells
    whole: bool  # whether all data take part
    fine: bool  # whether all targets do
    steps: int
    visit: int  # steps at this width
    row: int  # where the E-step goes on
    done: bool


def first_descent(transform: Float64, width: float, targets: Float64) -> Descent:
    """The state before the first step, at `transform` (D, D + 1) and `width`. `targets` is (P, m)."""
    grid = sorted_cells(targets, *corners(targets), ONE_CELL_SIDE)
    none = np.zeros_like(transform)
    return Descent(transform, none, width, width, 0.0, grid, 0.0, False, False, 0, 0, 0, False)


@compiled
def descend(
    source: Float64,
    target: Float64,
    coarse: Float64,
    dimension: int,
    kind: int,
    last: float,
    spacing: float,
    coarse_spacing: float,
    bin_weight: float,
    found: EStep,
    columns: Float64,
    path: Float64,
    state: Descent,
    pairs: int,
) -> Descent:
    """Robust EM from a transform, the width falling from the first one to the noise, or to `last`.

    It stops once it has visited about `pairs` pairs, and goes on from the state that it has returned.

    Args:
        source: (P, N), in random order.
        target: (P, M), in random order. For transforms with a scale, which could shrink the source to a point, the
            targets are the data; for the others the source is.
        dimension: D.
        kind: the code of the transform.
        last: the least width.
        coarse: (P, m) some of the targets, which suffice at wide widths.
        spacing: the typical distance between neighbouring targets.
        coarse_spacing: the same for `coarse`.
        bin_weight: β, as in `truncated.expect`.
        found: arrays for the E-step of max(N, M) points.
        columns: (N,), for sums over the data.
        path: (DESCENT.most_steps, D, D + 1), filled with the transform after each step.
        state: `first_descent`, or what a call has returned.
        pairs: see above.

    The parts of `loop.Loop`: `first_descent` is its init, the inner `while` its step, the tests of `moved_by` and
    `width` its converged, and the last return its outcome.
    """
    transform, before, width, estimate, inliers, grid, side, whole, fine, steps, visit, row, _ = state
    swapped = SCALES[kind]
    data, others = (target, source) if swapped else (source, coarse)
    few = np.ascontiguousarray(
        data[:, : max(DESCENT.sample_per_thousand, DESCENT.sample_per_thousand * target.shape[1] // 1000)]
    )
    all_data = data
    if not whole:
        data = few
    if fine:
        others = target
    moved = np.zeros_like(source if swapped else data)
    rough = not swapped and source.shape[0] == AXES
    single = others.astype(np.float32)
    while steps < DESCENT.most_steps:
        wanted = width * math.sqrt(2 * DESCENT.cutoff)
        quick = rough and others.shape[1] <= FEW_TARGETS
        if not swapped and not quick and not 0.6 < side / wanted < 1.7:
            grid, side = sorted_cells(others, *corners(others), wanted), wanted
        sharp = width < DESCENT.blurred_spacings * spacing
        if visit == 0 and row == 0:
            estimate = width
            before = np.zeros_like(transform)
        while visit < DESCENT.most_visits:
            move(transform, source if swapped else data, moved)
            if swapped:
                grid = sorted_cells(moved, *corners(moved), wanted)
            if quick or (rough and len(grid.starts) == ONE_CELL):
                expect_in_single_precision(moved, single, 0.5 / width**2, bin_weight, found)
                pairs -= data.shape[1] * others.shape[1] // 4
                sums = sums_of_rows(data, dimension, found)
            else:
                row, pairs, sums = _robust(
                    source,
                    moved,
                    data,
                    grid,
                    dimension,
                    swapped,
                    0.5 / width**2,
                    bin_weight,
                    found,
                    columns,
                    row,
                    pairs,
                )
                if row < data.shape[1]:
                    return Descent(
                        transform, before, width, estimate, inliers, grid, side, whole, fine, steps, visit, row, False
                    )
                row = 0
            total = sums.within[dimension, dimension]
            inliers = total / data.shape[1]
            if total <= dimension + 1 or steps == DESCENT.most_steps:
                return Descent(
                    transform, before, width, estimate, inliers, grid, side, whole, fine, steps, visit, row, True
                )
            after = fit(kind, transform, sums)
            residual = residual_after(sums, transform, after)
            estimate = math.sqrt(residual / (total * dimension))
            moved_by = (sums.residual - residual) / total  # a lower bound of the mean square step
            before, transform = _extrapolated(kind, transform, after, before)
            assign(transform, path[steps])
            steps += 1
            visit += 1
            if moved_by < ((DESCENT.distinct_step if sharp else DESCENT.blurred_step) * width) ** 2:
                break
            if pairs <= 0 and visit < DESCENT.most_visits:
                return Descent(
                    transform, before, width, estimate, inliers, grid, side, whole, fine, steps, visit, row, False
                )
        visit = 0
        if not swapped and others.shape[1] < target.shape[1] and width < DESCENT.coarse_spacings * coarse_spacing:
            others, side, fine = target, 0.0, True
            single = others.astype(np.float32)
        if width < DESCENT.sample_spacings * spacing and data.shape[1] < all_data.shape[1]:
            data, whole = all_data, True
            if not swapped:
                moved = np.zeros_like(data)
            continue
        if width <= last or (sharp and estimate > DESCENT.settled_share * width):
            break
        width = max(min(DESCENT.width_ratio * width, 1.05 * estimate) if sharp else DESCENT.width_ratio * width, last)
    return Descent(transform, before, width, estimate, inliers, grid, side, whole, fine, steps, visit, row, True)


@compiled
def _extrapolated(kind: int, here: Float64, after: Float64, before: Float64) -> tuple[Float64, Float64]:
    """The step from `here` to `after`, and the next transform, beyond `after` if `before` was a step in this direction.

    A series of steps that shrink by a factor ρ each ends ρ/(1 - ρ) of the last step beyond it (Aitken). In a dense
    cloud that is most of the distance.
    """
    step = after - here
    along, length = 0.0, 0.0
    for d in range(step.shape[0]):
        for e in range(step.shape[1]):
            along += step[d, e] * before[d, e]
            length += before[d, e] ** 2
    if SCALES[kind] or not along > DESCENT.least_ratio * length or length == 0:
        return step, after
    ratio = along / length
    gain = min(ratio / (1 - ratio), DESCENT.most_gain) if ratio < 1 else DESCENT.most_gain
    ahead = after + step * gain
    if ROTATES[kind]:
        D = ahead.shape[0]
        assign(rotation(np.ascontiguousarray(ahead[:, :D])), ahead)
    # The step after an extrapolation does not continue the series.
    return np.zeros_like(step), ahead


@compiled
def _robust(
    source: Float64,
    moved: Float64,
    data: Float64,
    grid: Cells,
    dimension: int,
    swapped: bool,
    precision: float,
    bin_weight: float,
    found: EStep,
    columns: Float64,
    row: int,
    pairs: int,
) -> tuple[int, int, Sums]:
    """The E-step of the moved source against the targets; if `swapped`, of the targets against it.

    Returns the next row and what is left of `pairs`, as `truncated.expect_rows` does, and at the end the moments.
    """
    none = np.empty(0)
    unknown = Sums(np.zeros((dimension + 1, dimension + 1)), np.zeros((dimension + 1, dimension)), 0.0, 0.0)
    if not swapped:
        row, pairs = expect_rows(
            moved, grid, none, grid.points, precision, bin_weight, DESCENT.cutoff, found, none, row, pairs
        )
        return row, pairs, sums_of_rows(data, dimension, found) if row == data.shape[1] else unknown
    payload = np.empty_like(source)
    for i in range(source.shape[1]):
        for d in range(source.shape[0]):
            payload[d, i] = source[d, grid.order[i]]
    if row == 0:
        columns[:] = 0.0
    row, pairs = expect_rows(
        data, grid, none, payload, precision, bin_weight, DESCENT.cutoff, found, columns, row, pairs
    )
    if row < data.shape[1]:
        return row, pairs, unknown
    unsorted = np.empty_like(columns)
    for j in range(len(columns)):
        unsorted[grid.order[j]] = columns[j]
    return row, pairs, sums_of_columns(source, data, dimension, found, unsorted)
