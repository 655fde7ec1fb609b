"""The quick way down from a start that is trusted: annealing of a small problem, compiled as a whole.

The same robust steps as in `annealing`, without its acceleration, its thinning and its scores: from a pose that is
near, a few hundred points need none of them, and the interpreter would take longer than the arithmetic.
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

FALL = 0.6
VISITS = 4
# Steps of so many widths are small while the matching is blurred, and where it is sharp and soon found.
STILL, NEARLY = 0.04, 0.2
# How much of the last step a step has to be to be one of a series, and how much farther than it to go at most.
LEAST_RATIO = 0.3
MOST_GAIN = 6.0
MOST_STEPS = 64
# At wide widths so many source points say what all would, for every thousand targets, down to so many spacings.
FEW = 64
ENOUGH = 0.5
# And so many spacings of the coarse targets are what a width has to have to be content with those.
COARSE = 0.8
CUTOFF = 9.0
# Below this many spacings the distances to the targets tell the noise, and a width that they come so close to settles.
BLUR = 0.5
SETTLED = 0.92


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
        The last width, the share of the source with a partner, and how many steps were taken.
    """
    swapped = kind >= SIMILARITY
    data, others = (target, source) if swapped else (source, coarse)
    few = np.ascontiguousarray(data[:, : max(FEW, FEW * target.shape[1] // 1000)])
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
        sharp = width < BLUR * spacing
        estimate = width
        before = np.zeros_like(transform)
        for _ in range(VISITS):
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
            if moved_by < ((NEARLY if sharp else STILL) * width) ** 2:
                break
        if not swapped and others.shape[1] < target.shape[1] and width < COARSE * coarse_spacing:
            others, side = target, 0.0
            single = others.astype(np.float32)
        if width < ENOUGH * spacing and data.shape[1] < all_data.shape[1]:
            data = all_data
            if not swapped:
                moved = np.zeros_like(data)
            continue
        if width <= last or (sharp and estimate > SETTLED * width):
            break
        width = max(min(FALL * width, 1.05 * estimate) if sharp else FALL * width, last)
    return width, inliers, steps


@compiled
def _extrapolated(kind: int, here: Float64, after: Float64, before: Float64) -> tuple[Float64, Float64]:
    """The step from `here` to `after`, and where it leads: farther, if the last one, `before`, went the same way.

    Steps that shrink by a factor ρ each end ρ/(1 - ρ) of the last one beyond it (Aitken). Where the matching is dense
    that is most of the way.
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
    # What follows an extrapolation is not the next of a series.
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
