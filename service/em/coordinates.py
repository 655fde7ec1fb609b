"""The frame: each cloud relative to its own median, in its own unit, a power of two.

The median of each coordinate is robust to a few distant points. It is one of the coordinates itself, so subtracting it
is exact if the cloud is small relative to its distance from the origin. Dividing by a power of two is exact too. The
loops therefore compute alike whether the caller's unit is a nanometre or a light year.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput
from .jit import compiled
from .kernel.cells import AXES, cells
from .model import SIGMA_FLOOR
from .problem import MIN_SIGMA, Pose

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# A cloud whose standard deviation along an axis is less than this share of its largest counts as flat there.
FLAT = 1e-9
# If the least variance is above this share of the largest, the cloud spans all dimensions without a closer test.
SOLID = 1e-6
# A strided sample of this many points determines the rank of a cloud.
RANKED = 10_000
# Points beyond this distance, in the frame's unit, are not part of the bulk of the cloud.
BULK = 64.0
# The relative rounding of an extent, and more.
ROUNDING = 1e-9
# The least unit: the compiler may multiply by 1 / unit, which must be finite.
LEAST_UNIT = 2.0**-1000
# Clouds of more points than this exceed the processor's caches.
ORDERED = 20_000
POINTS_PER_CELL = 32


class Frame(NamedTuple):
    """Both clouds in coordinates of magnitude about 1, one row for each coordinate, with rows of zeros up to three."""

    source: Float64  # (P, N), P = max(D, 3)
    target: Float64  # (P, M)
    dimension: int  # D
    source_centre: Float64  # (D,) in the caller's coordinates, and so are
    target_centre: Float64  # (D,)
    source_unit: float
    target_unit: float
    axes: Int64  # (D,) the caller's coordinate of each row
    back: Int64  # (D,) the row of each of the caller's coordinates
    source_order: Int64  # (N,) the caller's index of each column
    target_order: Int64  # (M,)
    rounding: float  # error of the caller's coordinates, in the target's unit
    floor: float  # the smallest σ that an estimate may take, in the target's unit

    @property
    def reordered(self) -> bool:
        """Whether either cloud's points were reordered."""
        return max(len(self.source_order), len(self.target_order)) > ORDERED

    def to_caller(self, transform: Float64) -> Pose:
        """B (D, D + 1) of these coordinates as A and T of the caller's."""
        D = self.dimension
        linear = transform[self.back][:, self.back] * (self.target_unit / self.source_unit)
        shift = transform[self.back, D] * self.target_unit
        # The centres come last, because their rounding error is that of the caller's own coordinates.
        return Pose(linear, shift + (self.target_centre - linear @ self.source_centre))

    def from_caller(self, pose: Pose) -> Float64:
        """A and T of the caller's coordinates as B (D, D + 1) of these."""
        D = self.dimension
        shift = pose.linear @ self.source_centre + (pose.translation - self.target_centre)
        out = np.empty((D, D + 1))
        out[:, :D] = pose.linear[self.axes][:, self.axes] * (self.source_unit / self.target_unit)
        out[:, D] = shift[self.axes] / self.target_unit
        return out

    def moved_to_caller(self, moved: Float64) -> Float64:
        """The moved source (P, N), in the frame's target unit, as (N, D) in the caller's coordinates and order."""
        out = np.empty((moved.shape[1], self.dimension))
        out[self.source_order] = moved[self.back].T * self.target_unit + self.target_centre
        return out

    def in_caller_order(self, values: NDArray[Any]) -> NDArray[Any]:
        """One value for each source point (N, ...), in the caller's order."""
        out = np.empty_like(values)
        out[self.source_order] = values
        return out


def frame(source: Float64, target: Float64, *, one_unit: bool, keep_order: bool = False) -> Frame:
    """The frame of `source` (N, D) and `target` (M, D); `one_unit` for transforms that keep distances.

    Large clouds are sorted by the cells of a grid, unless `keep_order`: neighbouring points have the same neighbours,
    which are then still in the cache.

    The floor of σ is SIGMA_FLOOR times √(s² + t²), where s² and t² are the mean squared distances of the source and of
    the target from their own medians. Points farther than BULK units are left out. The floor is at least the rounding
    of the coordinates and MIN_SIGMA.
    """
    dimension = source.shape[1]
    (p, source_extent, source_size), (q, target_extent, target_size) = _measure(source), _measure(target)
    source_unit, target_unit = _unit(source_extent), _unit(target_extent)
    if one_unit:
        source_unit = target_unit = max(source_unit, target_unit)
    axes = np.arange(dimension)
    if dimension > AXES:
        axes = np.argsort(-np.abs((target - q) / target_unit).mean(0), kind="stable")
    rounding = max(source_size / source_unit, target_size / target_unit) * float(np.finfo(np.float64).eps)
    x, y = _rows(source, p, source_unit, axes), _rows(target, q, target_unit, axes)
    x, source_order = _in_cells(x, keep_order)
    y, target_order = _in_cells(y, keep_order)
    return Frame(
        x,
        y,
        dimension,
        p,
        q,
        source_unit,
        target_unit,
        axes,
        np.argsort(axes),
        source_order,
        target_order,
        rounding,
        max(SIGMA_FLOOR * math.sqrt(_square(x) + _square(y)), rounding, MIN_SIGMA),
    )


@compiled
def _square(points: Float64) -> float:
    """The mean square distance from the centre, of points within the bulk of the cloud."""
    total, count = 0.0, 0
    for i in range(points.shape[1]):
        square = 0.0
        for d in range(points.shape[0]):
            square += points[d, i] ** 2
        if square <= BULK * BULK:
            total += square
            count += 1
    return total / count


def check_rank(frame_: Frame, needed: int, transform: str) -> None:
    """Raise InvalidInput unless both clouds span at least `needed` dimensions, as this `transform` requires."""
    for name, points in (("source", frame_.source), ("target", frame_.target)):
        rank = span(points[: frame_.dimension], frame_.rounding)
        if rank < needed:
            shape = ["lie in one place", "lie on one line", "lie in one plane"]
            what = shape[rank] if rank < len(shape) else f"span only {rank} dimensions"
            count = points.shape[1]
            fault = f"all {count} points of the {name} {what}" if count > 1 else f"the {name} is a single point"
            raise InvalidInput(
                f"{fault}, which leaves transform {transform} undetermined",
                pointer=f"/{name}",
                allowed=f"points that span {needed} dimension{'s' if needed > 1 else ''}, or transform translation",
            )


def span(points: Float64, rounding: float) -> int:
    """The number of dimensions that the bulk of the cloud (D, N) spans beyond rounding, in a frame's coordinates."""
    if _is_solid(points, rounding):
        return len(points)
    bulk = points[:, np.abs(points).max(0) <= BULK]
    some = bulk[:, :: max(1, bulk.shape[1] // RANKED)]
    extents = np.linalg.svd(some - some.mean(1, keepdims=True), compute_uv=False) / math.sqrt(some.shape[1])
    return int((extents > max(FLAT * float(extents.max()), 4 * rounding, MIN_SIGMA)).sum())


@compiled
def _is_solid(points: Float64, rounding: float) -> bool:
    """Whether the cloud (D, N) clearly spans all dimensions; False if squares are too inexact to decide."""
    D, every = points.shape[0], max(1, points.shape[1] // RANKED)
    moments = np.zeros((D + 1, D + 1))
    for i in range(0, points.shape[1], every):
        largest = 0.0
        for d in range(D):
            largest = max(largest, abs(points[d, i]))
        if largest <= BULK:
            moments[D, D] += 1
            for d in range(D):
                moments[d, D] += points[d, i]
                for e in range(d + 1):
                    moments[d, e] += points[d, i] * points[e, i]
    for d in range(D):
        for e in range(d + 1):
            moments[d, e] = moments[d, e] / moments[D, D] - moments[d, D] * moments[e, D] / moments[D, D] ** 2
            moments[e, d] = moments[d, e]
    squares = np.linalg.eigvalsh(np.ascontiguousarray(moments[:D, :D]))
    least = max(SOLID * squares.max(), (8 * rounding) ** 2, (2 * MIN_SIGMA) ** 2)
    return bool(squares.min() > least)


def _in_cells(points: Float64, keep_order: bool) -> tuple[Float64, Int64]:
    count = points.shape[1]
    if keep_order or count <= ORDERED:
        return points, np.arange(count)
    extent = float(np.median(np.abs(points).max(0))) * 2
    found = cells(points, extent / (count / POINTS_PER_CELL) ** (1 / AXES))
    return found.points, found.order


@compiled
def _measure(points: Float64) -> tuple[Float64, float, float]:
    """The median (D,) of a cloud (N, D), its extent about the median, and the largest absolute coordinate.

    Of two middle points the lower is taken, because their mean would round. The extent is the median over the
    points of the largest distance along an axis, or the largest of them if the median is 0.
    """
    count, dimension = points.shape
    centre, distance = np.empty(dimension), np.zeros(count)
    size = 0.0
    # An odd number of values has one in the middle. Compiling `np.partition` would take three seconds.
    column = np.full(count + 1 - count % 2, -np.inf)
    for d in range(dimension):
        for i in range(count):
            column[i] = points[i, d]
        centre[d] = np.median(column)
        for i in range(count):
            size = max(size, abs(points[i, d]))
            distance[i] = max(distance[i], abs(points[i, d] - centre[d]))
    extent = np.median(distance)
    return centre, extent if extent > 0 else distance.max(), size


def _unit(extent: float) -> float:
    """The largest power of two that is not above an extent, except for rounding; at least LEAST_UNIT."""
    return max(2.0 ** math.floor(math.log2(extent) + ROUNDING), LEAST_UNIT) if extent > 0 else 1.0


@compiled
def _rows(points: Float64, centre: Float64, unit: float, axes: Int64) -> Float64:
    """A cloud (N, D) in its own coordinates, the `axes` first, with rows of zeros up to three."""
    out = np.zeros((max(len(axes), AXES), points.shape[0]))
    for d in range(len(axes)):
        for i in range(points.shape[0]):
            out[d, i] = (points[i, axes[d]] - centre[axes[d]]) / unit
    return out
