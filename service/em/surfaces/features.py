"""Features of the surface around a point, which do not depend on the pose, and pairs of points that have similar ones.

A feature consists of histograms, in shells around the point, of three numbers for each neighbour at the direction d.
They are the cosines nᵀd, |nᵀm| and mᵀd with the normals n of the point and m of the neighbour, after the point features
of Rusu, Blodow and Beetz (2009). Normals have no sign of their own: n points to the side where the neighbours are, and
m to that of n.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..kernel.voxels import voxels
from ..slices import pause

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# The number of points of a cloud that have a feature, about, and the attempts to find voxels that leave as many.
POINTS, ATTEMPTS, NEAR_POINTS = 1000, 6, 1.15
# The radius of a feature, in sides of these voxels, the most neighbours in it, and the least.
RADIUS, MOST_NEIGHBOURS, LEAST_NEIGHBOURS = 8.0, 128, 8
SHELLS = 3
# The range and the number of bins of each of the three cosines. Few neighbours lie far off the tangential plane.
BINS = (-0.7, 0.7, 9), (0.0, 1.0, 6), (-0.7, 0.7, 9)
# The points of the other cloud that a point is paired with.
PARTNERS = 2


class Keys(NamedTuple):
    """Points of a cloud at even distances."""

    points: Float64  # (3, K)
    normals: Float64  # (3, K)


def even_side(clouds: tuple[Float64, ...]) -> float:
    """The side of voxels that leave about POINTS of the larger cloud (3, N); less if it has fewer points."""
    side = max(float(np.ptp(cloud, 1).max()) for cloud in clouds) / math.sqrt(POINTS)
    for _ in range(ATTEMPTS):
        count = max(len(voxels(cloud, side).counts) for cloud in clouds)
        if POINTS / NEAR_POINTS < count < POINTS * NEAR_POINTS:
            break
        side *= math.sqrt(count / POINTS)  # the voxels of a surface are as many as its area has squares of the side
    return side


def keys(points: Float64, normals: Float64, side: float) -> Keys:
    """The keys of a cloud (3, N) with its normals (3, N): of each voxel the point that is nearest to the mean."""
    found = voxels(points, side)
    off = ((points - found.points[:, found.of]) ** 2).sum(0)
    order = np.lexsort((off, found.of))
    first = order[np.concatenate([[0], np.cumsum(found.counts)[:-1]])]
    some, some_normals = np.take(points, first, 1), np.take(normals, first, 1)
    return Keys(some, some_normals)


def similar(source: Keys, target: Keys, side: float) -> tuple[Int64, Int64]:
    """The pairs (K,), (K,) of each key of the source and the PARTNERS targets with the most similar features.

    Keys without a normal, or with few neighbours, take no part. `side` is that of the keys' voxels.
    """
    (mine, own), (others, theirs) = (_features(one, RADIUS * side) for one in (source, target))
    count = min(PARTNERS, len(others))
    if not len(mine) or not count:
        return mine[:0], others[:0]
    pause()
    _, nearest = cKDTree(theirs).query(own, list(range(1, count + 1)))
    return np.repeat(mine, count), others[nearest.ravel()]


def _features(found: Keys, radius: float) -> tuple[Int64, Float64]:
    """The keys (K,) that have a feature, and their features (K, F)."""
    points, normals = found.points.T, found.normals.T
    count = len(points)
    pause()
    nearest = list(range(1, min(MOST_NEIGHBOURS, count) + 1))
    distance, index = map(np.asarray, cKDTree(points).query(points, nearest, distance_upper_bound=radius))
    at, place = np.nonzero((distance > 0) & (distance < np.inf))
    near, away = index[at, place], distance[at, place]
    to = (points[near] - points[at]) / away[:, None]
    own, others = normals[at], normals[near]
    rise = (own * to).sum(1)
    side = np.where(np.bincount(at, rise * away, count) < 0, -1.0, 1.0)[at]
    own, rise = own * side[:, None], rise * side
    alike = (own * others).sum(1)
    back = (others * to).sum(1) * np.where(alike < 0, -1.0, 1.0)
    shell = np.minimum((away / radius * SHELLS).astype(np.int64), SHELLS - 1)
    total = np.bincount(at * SHELLS + shell, minlength=count * SHELLS)
    parts = []
    for values, (low, high, bins) in zip((rise, np.abs(alike), back), BINS, strict=True):
        pause()
        histogram = _soft_histogram(values, low, high, bins, at * SHELLS + shell, count * SHELLS)
        # Distances of square roots are those between the distributions (Hellinger).
        parts.append(np.sqrt(histogram / np.maximum(total, 1)[:, None]).reshape(count, -1))
    enough = np.bincount(at, minlength=count) >= LEAST_NEIGHBOURS
    which = np.flatnonzero(enough & (normals != 0).any(1))
    return which, np.concatenate(parts, 1)[which]


def _soft_histogram(values: Float64, low: float, high: float, bins: int, group: Int64, groups: int) -> Float64:
    """The histogram (groups, bins) of `values` (n,) by `group` (n,); a value counts in the two nearest bins."""
    place = np.clip((values - low) / (high - low) * bins - 0.5, 0, bins - 1)
    first = np.minimum(place.astype(np.int64), bins - 2)
    share = place - first
    cell = group * bins + first
    size = groups * bins
    return np.asarray(np.bincount(cell, 1 - share, size) + np.bincount(cell + 1, share, size), np.float64).reshape(
        groups, bins
    )
