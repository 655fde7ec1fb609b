"""The log-ratio of a point at a place: a map of the target, looked up in a few nanoseconds.

A point at x whose nearest target is y_j adds to the log-ratio of a pose

    log((1 - w) g_j / f_j exp(-‖x - y_j‖² / 2s²) + w)

where g_j is the density of the target at y_j by kernels of the width s, f_j its smooth density there, and w the share
of points without a partner: the logarithm of the likelihood ratio of a match against chance. In a cloud so dense that
every point is near a target, g = f, and a match is no evidence. The widths s form a ladder, since the noise is unknown.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled, inlined
from ..kernel.cells import cells
from ..kernel.expectation import expect
from ..kernel.extent import box
from ..kernel.truncated import empty_e_step
from ..model import NONE, log_root
from .background import log_density
from .tuning import LANDSCAPE

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]

MISS = math.log(LANDSCAPE.miss_share)  # the log-ratio of a point without a target, in nats
NO_TARGET = -1


class Landscape(NamedTuple):
    """The map of a target of M points."""

    points: Float64  # (M, 3) the targets, one after the other
    gain: Float64  # (W, M) log((1 - w) g_j / f_j) for each width of the ladder
    precision: Float64  # (W,) 1 / 2s²
    nearest: Int32  # (X, Y, Z) the target next to each voxel's middle, or NO_TARGET
    low: Float64  # (3,) the map's corner
    side: float  # of a voxel


def landscape(target: Float64, others: Float64, spacing: float, smooth: float, dimension: int) -> Landscape:
    """The map of `target` (3, M).

    Args:
        target: the points that a pose may hit.
        others: (3, m) its first points, for the smooth density.
        spacing: the distance between neighbours, which scales the ladder.
        smooth: the width of the smooth density.
        dimension: D; in the plane the third coordinates are zero.
    """
    count = target.shape[1]
    background = log_density(target, others, smooth, dimension)
    gain, precision = np.empty((len(LANDSCAPE.widths), count)), np.empty(len(LANDSCAPE.widths))
    found = empty_e_step(len(target), count)
    for k, factor in enumerate(LANDSCAPE.widths):
        width = factor * spacing
        precision[k] = 0.5 / width**2
        grid = cells(target, width * math.sqrt(2 * LANDSCAPE.cutoff))
        tiny = math.exp(-LANDSCAPE.cutoff)
        expect(target, grid, NONE, grid.points, precision[k], tiny, LANDSCAPE.cutoff, found, NONE)
        kernel = -dimension * log_root(width) - math.log(count)
        gain[k] = math.log(1 - LANDSCAPE.miss_share) + found.evidence + kernel - background
    low, high = box(target)
    reach = LANDSCAPE.reach_spacings * spacing
    low, high = low - reach / 2, high + reach / 2
    side = max(LANDSCAPE.voxel_spacings * spacing, float((high - low).max()) * 1e-3, 1e-300)
    while math.prod(shape := [max(1, math.ceil(extent / side)) for extent in high - low]) > LANDSCAPE.most_voxels:
        side *= 1.1
    nearest = np.full(shape, NO_TARGET, np.int32)
    rowwise = np.ascontiguousarray(target.T)
    _mark(nearest, np.full(shape, np.inf), low, side, rowwise, reach)
    return Landscape(rowwise, gain, precision, nearest, low, side)


@compiled
def _mark(nearest: Int32, least: Float64, low: Float64, side: float, points: Float64, reach: float) -> None:
    """Fill in `nearest`, and `least`, the squared distance to it."""
    first, last = np.empty(3, np.int64), np.empty(3, np.int64)
    for j in range(points.shape[0]):
        inside = True
        for d in range(3):
            # Compared as floats: what a float beyond the integers converts to depends on the processor.
            begin = max(np.floor((points[j, d] - reach - low[d]) / side), 0.0)
            end = min(np.floor((points[j, d] + reach - low[d]) / side), nearest.shape[d] - 1.0)
            inside = inside and begin <= end
            first[d], last[d] = begin, end
        if not inside:
            continue
        for a in range(first[0], last[0] + 1):
            u = low[0] + (a + 0.5) * side - points[j, 0]
            for b in range(first[1], last[1] + 1):
                v = low[1] + (b + 0.5) * side - points[j, 1]
                for c in range(first[2], last[2] + 1):
                    w = low[2] + (c + 0.5) * side - points[j, 2]
                    square = u * u + v * v + w * w
                    if square < least[a, b, c] and square <= reach * reach:
                        least[a, b, c] = square
                        nearest[a, b, c] = j


@inlined
def log_ratio(near: float) -> float:
    """log(e^near + w) to within 0.1: the larger term, and a parabola in place of the logarithm of the rest."""
    rest = max(2.5 - abs(near - MISS), 0.0)
    return max(near, MISS) + 0.11 * rest * rest


@compiled
def next_to(place: Landscape, x: float, y: float, z: float) -> int:
    """The target next to a place, or NO_TARGET; exact but for the width of a voxel."""
    a = np.floor((x - place.low[0]) / place.side)
    b = np.floor((y - place.low[1]) / place.side)
    c = np.floor((z - place.low[2]) / place.side)
    shape = place.nearest.shape
    if a >= 0 and b >= 0 and c >= 0 and a < shape[0] and b < shape[1] and c < shape[2]:
        return int(place.nearest[int(a), int(b), int(c)])
    return NO_TARGET
