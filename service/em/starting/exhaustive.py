"""Poses of a few key points, from all pairs of their triangles: a search that misses none.

Every pair of congruent triangles, or of similar ones, is a pose. It is compared with all points: each has at most one
partner, and each target belongs to one point. The pose that is least likely a coincidence wins (`kernel.coincidence`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..coordinates import Frame
from ..jit import compiled
from ..kernel.coincidence import EXPECTED, REACH, coincidences
from ..kernel.extent import clipped_deviation
from ..kernel.fitting import rms_distance
from ..kinds import SCALES
from ..model import outlier_volume
from ..slices import in_slices
from .partners import Clouds, coincidence, judge, match, polished
from .starts import PoseStart
from .triangles import Triangles, pose_between, triangles
from .tuning import EXHAUSTIVE, SEARCH

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# The work of a pose, and of the comparison of its points, in pairs, for `in_slices`.
POSE, COMPARISON = 10, 10
# Cells of the map along the target's longest axis, in the plane and in space.
CELLS = 512, 80
# The fewest points with a partner for which a pose is compared exactly.
LEAST_PAIRS = 4


class Map(NamedTuple):
    """Where a target is within reach, at least: a cell is marked if any place in it may be."""

    marked: NDArray[np.bool_]  # (X, Y, Z)
    low: Float64  # (3,)
    side: float  # of a cell


def least_coincidence(points: Frame, kind: int, start: PoseStart) -> PoseStart:
    """`start`, or a pose from triangles that is no coincidence and explains more pairs, or closer ones.

    `kind` is RIGID or SIMILARITY, D = 2 or 3. There is no search among more than EXHAUSTIVE.most_points points, nor if
    nearly all points of the smaller cloud have a partner already.
    """
    n, m, D = points.source.shape[1], points.target.shape[1], points.dimension
    if min(n, m) <= D or max(n, m) > EXHAUSTIVE.most_points:
        return start
    volume = outlier_volume(points.target, D)
    chance = coincidences(n, m, D, volume, scales=SCALES[kind])
    target = points.target[:3].T
    wide = Clouds(
        np.ascontiguousarray(points.source[:3].T),
        np.ascontiguousarray(target[np.argsort(target[:, 0], kind="stable")]),
        D,
        chance.widest,
        REACH * points.floor,
        chance.constant,
        chance.power,
    )
    before = judge(wide, start.transform)
    least = min(math.log(EXPECTED), before.value - EXHAUSTIVE.margin)
    if before.value < math.log(EXPECTED) and before.pairs >= EXHAUSTIVE.enough * min(n, m):
        return start
    clouds = wide._replace(reach=min(EXHAUSTIVE.reach * volume ** (1 / D), wide.reach))
    found = [judge(wide, polished(clouds, kind, one)) for one in _candidates(points, clouds, kind)]
    found = sorted((one for one in found if one.value < least), key=lambda one: one.value)
    if not found:
        return start
    best, *others = *found, before
    same = SEARCH.same_pose * clipped_deviation(points.target[:D])
    apart = [one.transform for one in others if rms_distance(points.source, one.transform, best.transform) > same]
    path = [*start.path, best.transform]
    sigma = max(best.sigma, points.floor)
    return PoseStart(best.transform, sigma, best.pairs / n, "triangles", path, tuple(apart))


def _candidates(points: Frame, clouds: Clouds, kind: int) -> list[Float64]:
    """The best poses (D, D + 1) from pairs of triangles, with different pairs of points."""
    D, scales = clouds.dimension, SCALES[kind]
    slack = EXHAUSTIVE.slack * clouds.reach
    own, others = triangles(clouds.source, D, 0.0), triangles(clouds.target, D, slack)
    if not len(own.side) or not len(others.side):
        return []
    key = own.u if scales else own.side
    # Lengths that are equal but for rounding are equal in single precision.
    order = np.argsort(key.astype(np.float32), kind="stable")
    if scales:
        # There are many more similar triangles than congruent ones.
        order = order[:: math.ceil(len(order) / EXHAUSTIVE.most_triangles)]
    own = Triangles(own.corners[order], own.side[order], own.u[order], own.v[order])
    size = clipped_deviation(points.target[:D]) / clipped_deviation(points.source[:D])
    low, high = (size / EXHAUSTIVE.scale, size * EXHAUSTIVE.scale) if scales else (1.0, 1.0)
    transforms, values = np.zeros((EXHAUSTIVE.kept, 3, 4)), np.full(EXHAUSTIVE.kept, math.inf)
    partners = np.full((EXHAUSTIVE.kept, len(clouds.source)), -1)
    arguments = clouds, _map(clouds), own, others, key[order], scales, low, high, slack, transforms, values, partners
    in_slices(len(others.side), lambda first, pairs: _compare(*arguments, first, pairs))
    return [_in_dimension(transforms[k], D) for k in np.flatnonzero(values < math.inf)]


def _in_dimension(transform: Float64, dimension: int) -> Float64:
    """The pose (D, D + 1) of a pose in space (3, 4)."""
    return np.ascontiguousarray(np.delete(transform, 2, 1)[:2]) if dimension == 2 else transform.copy()


def _map(clouds: Clouds) -> Map:
    low, high = clouds.target.min(0) - clouds.reach, clouds.target.max(0) + clouds.reach
    side = float((high - low).max()) / CELLS[clouds.dimension - 2]
    marked = np.zeros([math.ceil(extent / side) + 1 for extent in high - low], np.bool_)
    _mark(clouds.target, clouds.reach, low, side, marked)
    return Map(marked, low, side)


@compiled
def _mark(target: Float64, reach: float, low: Float64, side: float, marked: NDArray[np.bool_]) -> None:
    first, last = np.empty(3, np.int64), np.empty(3, np.int64)
    # From the middle of a cell to its corners.
    wide = (reach / side + math.sqrt(0.75)) ** 2
    for j in range(len(target)):
        at = (target[j] - low) / side
        for d in range(3):
            first[d] = max(int(at[d] - reach / side), 0)
            last[d] = min(int(at[d] + reach / side), marked.shape[d] - 1)
        for a in range(first[0], last[0] + 1):
            for b in range(first[1], last[1] + 1):
                for c in range(first[2], last[2] + 1):
                    if (a + 0.5 - at[0]) ** 2 + (b + 0.5 - at[1]) ** 2 + (c + 0.5 - at[2]) ** 2 <= wide:
                        marked[a, b, c] = True


@compiled
def _near(source: Float64, transform: Float64, place: Map) -> int:
    """How many points are moved to a marked cell."""
    marked, low, count = place.marked, place.low, 0
    inverse = 1.0 / place.side
    for i in range(len(source)):
        u, v, w = source[i, 0], source[i, 1], source[i, 2]
        x = transform[0, 0] * u + transform[0, 1] * v + transform[0, 2] * w + transform[0, 3] - low[0]
        y = transform[1, 0] * u + transform[1, 1] * v + transform[1, 2] * w + transform[1, 3] - low[1]
        z = transform[2, 0] * u + transform[2, 1] * v + transform[2, 2] * w + transform[2, 3] - low[2]
        x, y, z = x * inverse, y * inverse, z * inverse
        if x >= 0 and y >= 0 and z >= 0 and x < marked.shape[0] and y < marked.shape[1] and z < marked.shape[2]:
            count += marked[int(x), int(y), int(z)]
    return count


@compiled
def _compare(
    clouds: Clouds,
    place: Map,
    own: Triangles,
    others: Triangles,
    key: Float64,
    scales: bool,
    low: float,
    high: float,
    slack: float,
    transforms: Float64,
    values: Float64,
    partners: Int64,
    first: int,
    pairs: int,
) -> int:
    """Compare `others` from `first` on with all of `own`, and keep the best poses. Returns the next triangle.

    `key` is what `own` is sorted by: u if the pose `scales`, else the longest side. `low` and `high` bound the scale,
    `slack` is the largest error of a corner's place.
    """
    n, flat = len(clouds.source), clouds.dimension == 2
    square, partner, transform = np.empty(n), np.empty(n, np.int64), np.empty((3, 4))
    for t in range(first, len(others.side)):
        side = others.side[t]
        error = slack / side
        about, within = (others.u[t], error) if scales else (side, slack)
        begin, end = np.searchsorted(key, about - within), np.searchsorted(key, about + within)
        for s in range(begin, end):
            if abs(own.u[s] - others.u[t]) > error or abs(own.v[s] - others.v[t]) > error:
                continue
            scale = side / own.side[s] if scales else 1.0
            if scale < low or scale > high:
                continue
            pose_between(clouds.source, clouds.target, own.corners[s], others.corners[t], scale, flat, transform)
            pairs -= n + POSE
            if _near(clouds.source, transform, place) < LEAST_PAIRS:
                continue
            hits = match(clouds, transform, square, partner)
            pairs -= n * COMPARISON
            if hits < LEAST_PAIRS:
                continue
            value, _, _ = coincidence(clouds, square, partner, hits)
            _keep(transform, value, partner, transforms, values, partners)
        pairs -= end - begin
        if pairs <= 0:
            return t + 1
    return len(others.side)


@compiled
def _keep(
    transform: Float64, value: float, partner: Int64, transforms: Float64, values: Float64, partners: Int64
) -> None:
    """Put a pose in the place of the worst, or of the one that has most of its pairs, if it is better."""
    place, worst = -1, 0
    for k in range(len(values)):
        alike, some = 0, 0
        for i in range(len(partner)):
            if partner[i] >= 0:
                some += 1
                alike += partner[i] == partners[k, i]
        if values[k] < np.inf and 2 * alike > some:
            place = k
        if values[k] > values[worst]:
            worst = k
    place = worst if place < 0 else place
    if value < values[place]:
        values[place] = value
        transforms[place] = transform
        partners[place] = partner
