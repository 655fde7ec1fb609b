"""Annealing of a small problem from a trusted start, compiled as a whole.

The robust steps are those of `annealing`, without its acceleration, thinning and scores. A few hundred points near the
right pose need none of them, and the interpreter would take longer than the arithmetic.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.cells import AXES, ONE_CELL, Cells, corners, sorted_cells
from ..kernel.fitting import (
    AFFINE,
    RIGID,
    SIMILARITY,
    Sums,
    fit,
    move,
    residual_after,
    rotation,
    sums_of_columns,
    sums_of_rows,
)
from ..kernel.single_precision import FEW_TARGETS
from ..kernel.single_precision import expect as expect_in_single_precision
from ..kernel.truncated import EStep, expect

Float64 = NDArray[np.float64]

# Constants of compiled loops, beside them so that a change of one compiles the loops anew.
WIDTH_RATIO = 0.6  # of one level's width to that before it
MOST_VISITS = 4  # steps at one width
# Root mean square step, in widths, that ends a level: while targets are blurred, and once they are distinguishable.
BLURRED_STEP, DISTINCT_STEP = 0.04, 0.2
# A step is one of a series if it is at least this share of the last one, and is extrapolated by at most this factor.
LEAST_RATIO = 0.3
MOST_GAIN = 6.0
MOST_STEPS = 64
# At wide widths this many source points for every thousand targets suffice, down to this width in spacings.
SAMPLE_PER_THOUSAND = 64
SAMPLE_SPACINGS = 0.5
# Least width, in spacings of the coarse targets, at which the coarse targets suffice.
COARSE_SPACINGS = 0.8
CUTOFF = 9.0
# Width, in spacings, below which residuals measure the noise; and the least share of a width at which they settle it.
BLURRED_SPACINGS = 0.5
SETTLED_SHARE = 0.92


@compiled
def descend(
    source: Float64,
    target: Float64,
    coarse: Float64,
    dimension: int,
    kind: int,
    transform: Float64,
    first: float,
    last: float,
    spacing: float,
    coarse_spacing: float,
    bin_weight: float,
    found: EStep,
    path: Float64,
) -> tuple[float, float, int]:
    """Robust EM from `transform` (D, D + 1), the width falling from `first` to the noise, or to `last`.

    Args:
        source: (P, N), and
        target: (P, M), in random order. Transforms with a scale explain the targets by the moved source, since they
            could shrink the source to a point otherwise; the others explain the source by the targets.
        coarse: (P, m) some of the targets, which explain the source at wide widths.
        spacing: the typical distance between neighbouring targets.
        coarse_spacing: and between those of `coarse`.
        bin_weight: β, as in `truncated.expect`.
        found: room for as many rows as the explained cloud has.
        path: (MOST_STEPS, D, D + 1), filled with the transforms after each step.

    Returns:
        The last width, the share of the source with a partner, and the number of steps.
    """
    swapped = kind >= SIMILARITY
    data, others = (target, source) if swapped else (source, coarse)
    few = np.ascontiguousarray(data[:, : max(SAMPLE_PER_THOUSAND, SAMPLE_PER_THOUSAND * target.shape[1] // 1000)])
    all_data, data = data, few
    moved = np.zeros_like(source if swapped else data)
    width = max(first, last)
    side = 0.0
    rough = not swapped and source.shape[0] == AXES
    single = others.astype(np.float32)
    grid = sorted_cells(others, *corners(others), 1e300)
    steps, inliers = 0, 0.0
    while steps < MOST_STEPS:
        wanted = width * math.sqrt(2 * CUTOFF)
        quick = rough and others.shape[1] <= FEW_TARGETS
        if not swapped and not quick and not 0.6 < side / wanted < 1.7:
            grid, side = sorted_cells(others, *corners(others), wanted), wanted
        sharp = width < BLURRED_SPACINGS * spacing
        estimate = width
        before = np.zeros_like(transform)
        for _ in range(MOST_VISITS):
            move(transform, source if swapped else data, moved)
            if swapped:
                grid = sorted_cells(moved, *corners(moved), wanted)
            if quick or (rough and len(grid.starts) == ONE_CELL):
                expect_in_single_precision(moved, single, 0.5 / width**2, bin_weight, found)
                sums = sums_of_rows(data, dimension, found)
            else:
                sums = _robust(source, moved, data, grid, dimension, swapped, 0.5 / width**2, bin_weight, found)
            total = sums.within[dimension, dimension]
            inliers = total / data.shape[1]
            if total <= dimension + 1 or steps == MOST_STEPS:
                return width, inliers, steps
            after = fit(kind, transform, sums)
            residual = residual_after(sums, transform, after)
            estimate = math.sqrt(residual / (total * dimension))
            moved_by = (sums.residual - residual) / total  # a lower bound of the mean square step
            before, transform = _extrapolated(kind, transform, after, before)
            path[steps] = transform
            steps += 1
            if moved_by < ((DISTINCT_STEP if sharp else BLURRED_STEP) * width) ** 2:
                break
        if not swapped and others.shape[1] < target.shape[1] and width < COARSE_SPACINGS * coarse_spacing:
            others, side = target, 0.0
            single = others.astype(np.float32)
        if width < SAMPLE_SPACINGS * spacing and data.shape[1] < all_data.shape[1]:
            data = all_data
            if not swapped:
                moved = np.zeros_like(data)
            continue
        if width <= last or (sharp and estimate > SETTLED_SHARE * width):
            break
        width = max(min(WIDTH_RATIO * width, 1.05 * estimate) if sharp else WIDTH_RATIO * width, last)
    return width, inliers, steps


@compiled
def _extrapolated(kind: int, here: Float64, after: Float64, before: Float64) -> tuple[Float64, Float64]:
    """The step from `here` to `after`, and where it leads: farther, if the last one, `before`, went the same way.

    Steps that shrink by a factor ρ each end ρ/(1 - ρ) of the last one beyond it (Aitken). In a dense
    cloud that is most of the distance.
    """
    step = after - here
    along, length = 0.0, 0.0
    for d in range(step.shape[0]):
        for e in range(step.shape[1]):
            along += step[d, e] * before[d, e]
            length += before[d, e] ** 2
    if kind in (AFFINE, SIMILARITY) or not along > LEAST_RATIO * length or length == 0:
        return step, after
    ratio = along / length
    gain = min(ratio / (1 - ratio), MOST_GAIN) if ratio < 1 else MOST_GAIN
    ahead = after + step * gain
    if kind == RIGID:
        D = ahead.shape[0]
        ahead[:, :D] = rotation(np.ascontiguousarray(ahead[:, :D]))
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
) -> Sums:
    """The moments of one E-step: of the moved source against the targets, or of the targets against it."""
    none = np.empty(0)
    if not swapped:
        expect(moved, grid, none, grid.points, precision, bin_weight, CUTOFF, found, none)
        return sums_of_rows(data, dimension, found)
    payload = np.empty_like(source)
    for i in range(source.shape[1]):
        for d in range(source.shape[0]):
            payload[d, i] = source[d, grid.order[i]]
    sorted_columns = np.zeros(source.shape[1])
    expect(data, grid, none, payload, precision, bin_weight, CUTOFF, found, sorted_columns)
    columns = np.empty_like(sorted_columns)
    columns[grid.order] = sorted_columns
    return sums_of_columns(source, data, dimension, found, columns)
