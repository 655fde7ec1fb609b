"""The first, plain steps of a climb, compiled as a whole, which is fastest if EM converges in a few steps."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.cells import corners, sorted_cells
from ..kernel.fitting import Sums, fit, mean_square_step, move, residual_after, sums_of_rows
from ..kernel.truncated import EStep, expect
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
    """The end of the ascent."""

    at: tuple[Float64, float, float]  # transform, σ, w of the last E-step
    after: tuple[Float64, float, float]  # after its M-step
    sums: Sums  # of the last E-step, which is left in `found` and `moved`
    iterations: int
    converged: bool


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
) -> PlainAscent:
    """EM steps of the row mixture with even weights, from (A, T), σ and w, until they settle, at most `max_iterations`.

    `source` and `moved` are (P, N), `target` (P, M). `transforms` (max_iterations, D, D + 1) and `numbers`
    (max_iterations, 3) receive the transform, and σ, w and Σ log z, of each E-step.

    The parts of `loop.Loop`: the lines before `while` are init, those up to `bound` step, `still` is converged, and the
    return is outcome.
    """
    dimension = transform.shape[0]
    none = np.empty(0)
    low, high = corners(target)
    side = 0.0
    grid = sorted_cells(target, low, high, 1e300)
    steps = 0
    while True:
        transforms[steps] = transform
        numbers[steps, 0], numbers[steps, 1] = sigma, outliers
        wanted = sigma * math.sqrt(2 * rules.cutoff)
        if not 0.5 < side / wanted < 2:
            grid, side = sorted_cells(target, low, high, wanted), wanted
        none_weight = bin_weight(outliers, sigma, dimension, rules.log_volume, 1 / target.shape[1])
        move(transform, source, moved)
        expect(moved, grid, none, grid.points, 0.5 / sigma**2, none_weight, rules.cutoff, found, none)
        sums = sums_of_rows(source, dimension, found)
        numbers[steps, 2] = sums.evidence
        steps += 1
        total = sums.within[dimension, dimension]
        at = (transform, sigma, outliers)
        transform = fit(rules.kind, transform, sums)
        square = mean_square_step(sums.within, at[0], transform)
        if rules.estimate_sigma and total > 0:
            sigma = max(math.sqrt(residual_after(sums, at[0], transform) / (total * dimension)), rules.floor)
        if rules.estimate_outliers:
            outliers = min(max(1 - total / source.shape[1], rules.least_outliers), rules.most_outliers)
        bound = rules.tolerance * sigma
        still = bool(total > 0 and square < bound * bound and abs(sigma - at[1]) < bound)
        if still or steps >= rules.max_iterations:
            return PlainAscent(at, (transform, sigma, outliers), sums, steps, still)
