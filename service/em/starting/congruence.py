"""Poses from congruent triangles of the source and the target.

A triangle of the source and its three partners determine a pose. All triangles of the target whose sides agree
within a tolerance are candidates (the congruent sets of Aiger, Mitra and Cohen-Or 2008, with three points in place of
four coplanar ones; in the plane two points suffice). Each is a hypothesis, tested by the source points around the
triangle: if the triangle is in the overlap, so are they, and the pose is accurate there. The test is sequential (Wald
1945): it sums the log-ratios of the landscape, and most hypotheses fail after a few points. The clouds need not be
close, equal in extent, or free of outliers: one triangle in the overlap suffices.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled, inlined
from ..slices import blocks
from .landscape import MISS, Landscape, log_ratio
from .tuning import CONGRUENCE

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


# The progress of a triangle that is done.
PROGRESS_END = -1


class Distances(NamedTuple):
    """All distances in a cloud of m points, sorted for each of them."""

    points: Float64  # (m, 3)
    sorted: NDArray[np.float32]  # (m, m)
    order: NDArray[np.int32]  # (m, m) the point at that distance


class Bases(NamedTuple):
    """Triangles of the source, and the points around each."""

    corners: Float64  # (S, 3, 3)
    around: Int64  # (S, n) the source's points from near to far, without the corners


def distances(points: Float64) -> Distances:
    """The distances within `points` (3, m); equal distances are in the order of the points."""
    rowwise = np.ascontiguousarray(points.T)
    count = len(rowwise)
    lengths, order = np.empty((count, count), np.float32), np.empty((count, count), np.int32)
    for some in blocks(count, count):
        squares = np.zeros((some.stop - some.start, count))
        for axis in points:
            squares += (axis[some, None] - axis) ** 2
        # The bits of numbers that are not negative have the order of the numbers. With the index in the lower half,
        # equal distances are sorted by index, by a sort that is faster than a stable one.
        keys = np.sqrt(squares).astype(np.float32).view(np.uint32).astype(np.uint64) << np.uint64(32)
        keys |= np.arange(count, dtype=np.uint64)
        keys.sort(axis=1)
        lengths[some] = (keys >> np.uint64(32)).astype(np.uint32).view(np.float32)
        order[some] = (keys & np.uint64(0xFFFFFFFF)).astype(np.int32)
    return Distances(rowwise, lengths, order)


def bases(source: Float64, target: Distances, count: int, around: int, chooser: np.random.Generator) -> Bases:
    """At most `count` triangles among `source` (3, n), wide and narrow, each with its `around` nearest points.

    Of every CONGRUENCE.rivals triangles of one size, the one whose sides are rarest in the target is used: it has the
    fewest hypotheses.
    """
    n = source.shape[1]
    rowwise = np.ascontiguousarray(source.T)
    extent = float(np.median(np.linalg.norm(rowwise - np.median(rowwise, 0), axis=1)))
    size = extent * 2.0 ** chooser.uniform(-1, 1, CONGRUENCE.drawn * count)
    picked = chooser.integers(n, size=(len(size), 3))
    corners = rowwise[picked]
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1)
    good = np.flatnonzero((sides.max(1) < 1.5 * size) & (sides.min(1) > 0.6 * size))
    if len(good) < CONGRUENCE.rivals * count:
        more = np.flatnonzero(sides.min(1) > 0.2 * sides.max(1))
        good = np.concatenate([good, more[: CONGRUENCE.rivals * count - len(good)]])
    # Rivals are of about the same size: narrow triangles fit into a small overlap, wide ones are more accurate.
    groups = good[: len(good) // CONGRUENCE.rivals * CONGRUENCE.rivals]
    # Regular clouds have many equal distances. They are sorted in single precision, in which they are still equal.
    groups = groups[np.argsort(sides[groups].max(1).astype(np.float32), kind="stable")].reshape(-1, CONGRUENCE.rivals)
    few = target.sorted[:: max(1, len(target.sorted) // 200), 1:].ravel()
    low, high = float(few.min()), float(few.max())
    # Distances that are equal but for rounding have no 64 numbers of single precision between them.
    often, edges = np.histogram(few, 64, range=(low, max(high, low * (1 + 2e-5), 1e-30)))
    # Products of integers are exact, so that the first of equally rare triangles is chosen on every processor.
    frequency = (often + 1)[np.clip(np.searchsorted(edges, sides) - 1, 0, 63)].prod(1)
    chosen = groups[np.arange(len(groups)), frequency[groups].argmin(1)]
    chosen = chooser.permutation(chosen)[:count]
    corners = corners[chosen]
    far = ((rowwise - corners.mean(1)[:, None]) ** 2).sum(-1)
    np.put_along_axis(far, picked[chosen], np.inf, 1)
    nearest = np.argsort(far.astype(np.float32), axis=1, kind="stable")[:, : max(min(around, n - 3), 0)]
    return Bases(corners, nearest)


@inlined
def _axes_of(
    ax: float, ay: float, az: float, bx: float, by: float, bz: float, cx: float, cy: float, cz: float, out: Float64
) -> bool:
    """Orthonormal axes (3, 3), as columns, of a triangle: along ab, towards c, and across. False for a flat one."""
    u, v, w = bx - ax, by - ay, bz - az
    length = math.sqrt(u * u + v * v + w * w)
    u, v, w = u / length, v / length, w / length
    x, y, z = cx - ax, cy - ay, cz - az
    along = u * x + v * y + w * z
    x, y, z = x - along * u, y - along * v, z - along * w
    height = math.sqrt(x * x + y * y + z * z)
    x, y, z = x / height, y / height, z / height
    out[0, 0], out[1, 0], out[2, 0] = u, v, w
    out[0, 1], out[1, 1], out[2, 1] = x, y, z
    out[0, 2], out[1, 2], out[2, 2] = v * z - w * y, w * x - u * z, u * y - v * x
    return length > 0 and height > 1e-9 * length


@inlined
def _length(a: Float64, b: Float64) -> float:
    return math.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2)


@compiled
def congruent(
    corners: Float64,
    near: Float64,
    target: Distances,
    place: Landscape,
    rung: int,
    tolerance: float,
    flat: bool,
    low_scale: float,
    high_scale: float,
    budget: int,
    part: int,
    progress: Int64,
    transforms: Float64,
    scores: Float64,
) -> int:
    """Find the poses that map one triangle of the source to triangles of the target. Returns the number of hypotheses.

    The work is done in parts: one call tests about `part` hypotheses, and the next goes on from its `progress`. The
    poses do not depend on the parts.

    Args:
        corners: (3, 3) of the triangle.
        near: (T, 3) the source points that test, those next to the triangle first.
        target: the points that the triangle may lie on.
        place: where the tests may hit.
        rung: of the landscape's ladder.
        tolerance: the largest error of a side.
        flat: the clouds lie in the plane of the first two coordinates.
        low_scale: the least scale.
        high_scale: the largest; equal to the least for a rigid pose, 1.
        budget: the most hypotheses to test; CONGRUENCE.looks third corners count as one.
        part: the hypotheses of one call, counted in the same way.
        progress: (4,) zeros at first, and PROGRESS_END in the first place after the last part.
        transforms: (K, 3, 4) receives the best poses.
        scores: (K,) receives their log-ratios, with a small preference for poses that turn little; -inf for none.
    """
    points, lines, orders = target.points, target.sorted, target.order
    voxels, targets, gains, precision = place.nearest, place.points, place.gain[rung], place.precision[rung]
    low_x, low_y, low_z, side = place.low[0], place.low[1], place.low[2], place.side
    many_x, many_y, many_z = voxels.shape
    begin, tried, looked, worst = int(progress[0]), int(progress[1]), int(progress[2]), int(progress[3])
    if begin == 0:
        scores[:] = -np.inf
    progress[0] = PROGRESS_END
    p, q, r = corners[0], corners[1], corners[2].copy()
    pq, pr, qr = _length(p, q), _length(p, r), _length(q, r)
    own, other = np.zeros((3, 3)), np.zeros((3, 3))
    if flat:
        r[0], r[1], r[2] = p[0] - (q[1] - p[1]), p[1] + (q[0] - p[0]), 0.0
    if not _axes_of(p[0], p[1], p[2], q[0], q[1], q[2], r[0], r[1], r[2], own):
        return 0
    # The middle of the corners carries less noise than a corner. The test points are in the triangle's own axes.
    pivot, middle = np.empty(3), np.empty(3)
    for d in range(3):
        pivot[d] = (p[d] + q[d]) / 2 if flat else (p[d] + q[d] + r[d]) / 3
    local = np.zeros((len(near), 3))
    for t in range(len(near)):
        for d in range(3):
            for e in range(3):
                local[t, d] += own[e, d] * (near[t, e] - pivot[e])
    bar = scores[worst]
    stop = min(budget, tried + looked // CONGRUENCE.looks + part)
    rigid = low_scale == high_scale
    thirds, suitable = np.zeros((3, len(points) + 1)), np.empty(len(points) + 1, np.int64)
    for i in range(begin, len(points)):
        line, order = lines[i], orders[i]
        ax, ay, az = points[i, 0], points[i, 1], points[i, 2]
        first = max(int(np.searchsorted(line, low_scale * pq - tolerance)), 1)
        last = int(np.searchsorted(line, high_scale * pq + tolerance))
        nearest_third, farthest_third = 0, 1
        if not flat:
            nearest_third = int(np.searchsorted(line, low_scale * pr - tolerance))
            farthest_third = int(np.searchsorted(line, high_scale * pr + tolerance))
            # Contiguous, because the loop below visits them repeatedly.
            for n in range(nearest_third, farthest_third):
                for d in range(3):
                    thirds[d, n] = points[order[n], d]
        for m in range(first, last):
            j = order[m]
            bx, by, bz = points[j, 0], points[j, 1], points[j, 2]
            scale = 1.0 if rigid else line[m] / pq
            if scale < low_scale or scale > high_scale:
                continue
            third_first, third_last = nearest_third, farthest_third
            if not flat and not rigid:
                third_first = int(np.searchsorted(line, scale * pr - tolerance))
                third_last = int(np.searchsorted(line, scale * pr + tolerance))
            low, high = max(scale * qr - tolerance, 0.0) ** 2, (scale * qr + tolerance) ** 2
            fitting = 0
            if flat:
                thirds[0, 0], thirds[1, 0] = ax - (by - ay), ay + (bx - ax)
                suitable[0], fitting = 0, 1
            else:
                looked += third_last - third_first
                for n in range(third_first, third_last):
                    square = (thirds[0, n] - bx) ** 2 + (thirds[1, n] - by) ** 2 + (thirds[2, n] - bz) ** 2
                    suitable[fitting] = n
                    fitting += square >= low and square <= high
            for s in range(fitting):
                n = suitable[s]
                cx, cy, cz = thirds[0, n], thirds[1, n], thirds[2, n]
                if not _axes_of(ax, ay, az, bx, by, bz, cx, cy, cz, other):
                    continue
                if flat:
                    mx, my, mz = (ax + bx) / 2, (ay + by) / 2, 0.0
                else:
                    mx, my, mz = (ax + bx + cx) / 3, (ay + by + cy) / 3, (az + bz + cz) / 3
                tried += 1
                total = 0.0
                for t in range(len(local)):
                    u, v, w = scale * local[t, 0], scale * local[t, 1], scale * local[t, 2]
                    x = other[0, 0] * u + other[0, 1] * v + other[0, 2] * w + mx
                    y = other[1, 0] * u + other[1, 1] * v + other[1, 2] * w + my
                    z = other[2, 0] * u + other[2, 1] * v + other[2, 2] * w + mz
                    at_x, at_y, at_z = (x - low_x) / side, (y - low_y) / side, (z - low_z) / side
                    gain = MISS
                    if at_x >= 0 and at_y >= 0 and at_z >= 0 and at_x < many_x and at_y < many_y and at_z < many_z:
                        hit = voxels[np.uint64(at_x), np.uint64(at_y), np.uint64(at_z)]
                        if hit >= 0:
                            x, y, z = x - targets[hit, 0], y - targets[hit, 1], z - targets[hit, 2]
                            gain = log_ratio(gains[hit] - (x * x + y * y + z * z) * precision)
                    total += gain
                    if total < CONGRUENCE.reject:
                        break
                if total < 0:
                    continue
                for d in range(3):
                    for e in range(3):
                        total += CONGRUENCE.upright * other[d, e] * own[d, e]
                if total <= bar:
                    continue
                scores[worst] = total
                middle[0], middle[1], middle[2] = mx, my, mz
                for d in range(3):
                    transforms[worst, d, 3] = middle[d]
                    for e in range(3):
                        turn = other[d, 0] * own[e, 0] + other[d, 1] * own[e, 1] + other[d, 2] * own[e, 2]
                        transforms[worst, d, e] = scale * turn
                        transforms[worst, d, 3] -= scale * turn * pivot[e]
                for k in range(len(scores)):
                    if scores[k] < scores[worst]:
                        worst = k
                bar = scores[worst]
        if tried + looked // CONGRUENCE.looks > stop:
            if tried + looked // CONGRUENCE.looks <= budget and i + 1 < len(points):
                progress[0], progress[1], progress[2], progress[3] = i + 1, tried, looked, worst
            break
    return tried + looked // CONGRUENCE.looks
