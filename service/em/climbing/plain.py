"""The first, plain steps of a climb, compiled as a whole, which is fastest if EM converges in a few steps."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.cells import Cells, corners, sorted_cells
from ..kernel.fitting import Sums, assign, fit, mean_square_step, move, residual_after, sums_of_rows
from ..kernel.truncated import EStep, expect_rows
from ..model import bin_weight

Float64 = NDArray[np.float64]


class Rules(NamedTuple):
    """The choices of the model, in a form for compiled code; see `mixture`."""

    kind: int
    estimate_sigma: bool
    estimate_outliers: bool
    least_outliers: float
    most_outliers: float
    log_volume: float  # log V
    cutoff: float
    tolerance: float  # in units of σ
    max_iterations: int
    floor: float  # the least σ


class PlainAscent(NamedTuple):
    """The end of the ascent, or of a part of it."""

    after: tuple[Float64, float, float]  # transform, σ, w after the last M-step
    sums: Sums  # of the last E-step, which is left in `found` and `moved`
    iterations: int
    converged: bool
    grid: Cells  # of the targets
    side: float  # that was wanted for its cells
    row: int  # of the E-step where the part ended; 0 at the end of an iteration


@compiled
def ascend(
    source: Float64,
    target: Float64,
    transform: Float64,
    sigma: float,
    outliers: float,
    rules: Rules,
    moved: Float64,
    found: EStep,
    transforms: Float64,
    numbers: Float64,
    grid: Cells,
    side: float,
    steps: int,
    row: int,
    pairs: int,
) -> PlainAscent:
    """EM steps of the row mixture with even weights, from (A, T), σ and w, until they settle, at most `max_iterations`.

    `source` and `moved` are (P, N), `target` (P, M). `transforms` (max_iterations, D, D + 1) and `numbers`
    (max_iterations, 3) receive the transform, and σ, w and Σ log z, of each E-step.

    It begins with any `grid`, a `side` of 0, and no `steps` and no `row`. It stops once it has visited about `pairs`
    pairs, and goes on with what it has returned, as if it had not stopped.

    The parts of `loop.Loop`: the lines before `while` are init, those up to `bound` step, `still` is converged, and the
    last return is outcome.
    """
    dimension = transform.shape[0]
    none = np.empty(0)
    low, high = corners(target)
    while True:
        if row == 0:
            assign(transform, transforms[steps])
            numbers[steps, 0], numbers[steps, 1] = sigma, outliers
            wanted = sigma * math.sqrt(2 * rules.cutoff)
            if not 0.5 < side / wanted < 2:
                grid, side = sorted_cells(target, low, high, wanted), wanted
            move(transform, source, moved)
        none_weight = bin_weight(outliers, sigma, dimension, rules.log_volume, 1 / target.shape[1])
        row, pairs = expect_rows(
            moved, grid, none, grid.points, 0.5 / sigma**2, none_weight, rules.cutoff, found, none, row, pairs
        )
        if row < source.shape[1]:
            unknown = Sums(np.zeros((dimension + 1, dimension + 1)), np.zeros((dimension + 1, dimension)), 0.0, 0.0)
            return PlainAscent((transform, sigma, outliers), unknown, steps, False, grid, side, row)
        row = 0
        sums = sums_of_rows(source, dimension, found)
        numbers[steps, 2] = sums.evidence
        steps += 1
        total = sums.within[dimension, dimension]
        before, width = transform, sigma
        transform = fit(rules.kind, transform, sums)
        square = mean_square_step(sums.within, before, transform)
        if rules.estimate_sigma and total > 0:
            sigma = max(math.sqrt(residual_after(sums, before, transform) / (total * dimension)), rules.floor)
        if rules.estimate_outliers:
            outliers = min(max(1 - total / source.shape[1], rules.least_outliers), rules.most_outliers)
        bound = rules.tolerance * sigma
        still = bool(total > 0 and square < bound * bound and abs(sigma - width) < bound)
        if still or steps >= rules.max_iterations or pairs <= 0:
            return PlainAscent((transform, sigma, outliers), sums, steps, still, grid, side, row)
