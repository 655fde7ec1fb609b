"""The local surface patch of each point: its normal, where the neighbours lie in a plane (in 2-D, on a line)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import always_inline, compiled
from ..kernel.cells import AXES
from ..kernel.least_axis import least_axis
from ..kernel.tree import WAITING, Tree, around, tree
from ..slices import ROW_PAIRS, in_slices

Float64 = NDArray[np.float64]
Int8 = NDArray[np.int8]

# The neighbours that make a patch, by D, and the larger number if noise hides most patches among so few. The point
# itself is one.
NEIGHBOURS = {2: 8, 3: 12}
MORE_NEIGHBOURS = {2: 16, 3: 40}
# The deviation of the neighbours across a patch, relative to that along its narrower side, below which it is one, and
# below which it is surely one. Points of a solid have .7.
FLAT, SURE = 0.5, 0.2
# The share of points without a sure patch, below which the larger number is not tried.
ROUGH = 0.5
# Points that tell the share of sure patches with a standard error of .02, and how much less than asked for it must be
# among them.
FEW, MARGIN = 400, 0.08
# What is known of a point: nothing sure yet; a sure patch; that none is looked for, as where NEIGHBOURS have its place.
OPEN, SETTLED, HOPELESS = 0, 1, 2
# Distances that differ by this share are equal: those of a lattice are, but for their rounding.
EQUAL = 1e-9
# The squared radius that k points of a surface are found within, in those of a disc of their area, and the factor by
# which it grows where they are not.
REACH, GROWTH = 0.7, 2.0
# So many points near a leaf are too many for each of its points to compare. It is long, or far from a dense place, and
# its points have their own searches. So many turns of one suffice, unless most neighbours have one distance.
MANY, TURNS = 1500, 40
# The steps of a search for a distance before the first that halves the interval.
SECANTS = 6
# The work of a comparison with a candidate, in pairs.
WITHIN = 2


class Patches(NamedTuple):
    """The patches of a cloud of K points."""

    normals: Float64  # (P, K) unit normals; zeros where the neighbours are not flat
    flat: float  # the share of the points that surely have one


def patches(points: Float64, dimension: int) -> Patches:
    """The patches of a cloud (P, K), from each point's nearest neighbours: the axis of their least variance."""
    return _fitted(_sorted(points, dimension), dimension)


def patches_if_flat(points: Float64, dimension: int, least_flat: float) -> Patches | None:
    """The `patches` of a cloud; None if less than the share `least_flat` of the points surely have one.

    A few points tell so of most clouds that have none.
    """
    cloud = _sorted(points, dimension)
    if least_flat > MARGIN and _fitted(cloud, dimension, FEW).flat < least_flat - MARGIN:
        return None
    found = _fitted(cloud, dimension)
    return found if found.flat >= least_flat else None


def with_given(points: Float64, dimension: int, normals: Float64 | None, least_flat: float) -> Patches | None:
    """The `patches` of a cloud, but the unit `normals` (P, K) where they are not zero. All count as sure then."""
    if normals is None:
        return patches_if_flat(points, dimension, least_flat)
    found = patches(points, dimension)
    known = np.where((normals != 0).any(0), normals, found.normals)
    flat = float((known != 0).any(0).mean())
    return Patches(known, flat) if flat >= least_flat else None


def _sorted(points: Float64, dimension: int) -> Tree:
    """The tree of a cloud (P, K), K > 0."""
    cloud = np.zeros((AXES, points.shape[1]))
    cloud[:dimension] = points[:dimension]
    return tree(cloud)


def _fitted(cloud: Tree, dimension: int, few: int | None = None) -> Patches:
    """The patches of all points, or of about `few`."""
    count = cloud.points.shape[1]
    normals, known = np.zeros((AXES, count)), np.zeros(count, np.int8)
    some = np.arange(0, count, 1 if few is None else max(1, count // few))
    if len(some) < count:
        known[:], known[some] = HOPELESS, OPEN  # so that the others are left out
    for most in NEIGHBOURS[dimension], MORE_NEIGHBOURS[dimension]:
        if count <= most or (known[some] != SETTLED).mean() < ROUGH:
            break
        _fit(cloud, most, dimension, normals, known)
    return Patches(normals, float((known[some] == SETTLED).mean()) if count else 0.0)


def _fit(tree: Tree, most: int, dimension: int, normals: Float64, known: Int8) -> None:
    """Fit patches to the `most` nearest of each OPEN point.

    `known` (K,) is in the order of the tree, and `normals` (P, K) in that of the cloud.
    """
    arguments = tree, most, dimension, normals, known
    in_slices(len(tree.boxes) // 2, lambda first, pairs: _fit_leaves(*arguments, first, pairs))


@compiled
def _fit_leaves(tree: Tree, most: int, dimension: int, normals: Float64, known: Int8, first: int, pairs: int) -> int:
    """`_fit` of the leaves from `first` on, until about `pairs` pairs are visited. Returns the next leaf."""
    points, count, leaves = tree.points, tree.points.shape[1], len(tree.boxes) // 2
    near, squares, waiting = np.empty((AXES, count)), np.empty(count), np.empty(WAITING, np.int64)
    left, box = np.empty(count, np.int64), np.empty(2 * AXES)
    for leaf in range(first, leaves):
        begin, end = count * leaf // leaves, count * (leaf + 1) // leaves
        start, together = begin, end - begin  # the points that share their candidates
        while start < end:
            if together > 1:
                box[:] = tree.boxes[leaves + leaf]
                reach = REACH * _diagonal(box) * most / (math.pi * together)
            else:
                box[:AXES], box[AXES:] = points[:, start], points[:, start]
                reach = _nearest_elsewhere(points, start, begin, end)
            waits, smallest, largest, turns = 0, 0.0, np.inf, 0
            for i in range(start, start + together):
                left[waits] = i
                waits += known[i] == OPEN
            if not 0.0 < reach < np.inf:  # a leaf has enough points to tell
                known[start : start + together], waits = HOPELESS, 0
            while waits > 0 and reach < np.inf:
                limit = MANY if turns < TURNS else count
                found, work = around(tree, box, reach, limit, near, waiting)
                turns += largest < np.inf
                pairs -= work
                if found > limit:
                    if together > 1:
                        break
                    largest = reach
                else:
                    pairs -= (WITHIN * found + ROW_PAIRS) * waits
                    again = 0
                    for k in range(waits):
                        i = left[k]
                        square = _within(points, i, near, found, most, reach, squares)
                        if square < 0.0:
                            left[again] = i
                            again += 1
                        elif square == 0.0:
                            known[i] = HOPELESS
                        else:
                            covariance = _covariance(points, i, near, found, squares, square)
                            known[i] = _settle(covariance, dimension, tree.order[i], normals)
                    waits, smallest = again, reach
                if largest == np.inf:
                    reach *= GROWTH
                elif turns < TURNS:
                    reach = (smallest + largest) / 2
                else:  # from now on there is no limit
                    reach, largest = largest, np.inf
            if waits > 0 and together > 1:
                together = 1
            else:
                start += together
        pairs -= ROW_PAIRS
        if pairs <= 0:
            return leaf + 1
    return leaves


@always_inline
def _diagonal(box: Float64) -> float:
    """The square of the diagonal of a box (2 AXES,)."""
    square = 0.0
    for d in range(AXES):
        square += (box[AXES + d] - box[d]) ** 2
    return square


@always_inline
def _nearest_elsewhere(points: Float64, i: int, begin: int, end: int) -> float:
    """The squared distance from point i to the nearest elsewhere, of those from `begin` to `end`; inf for none."""
    least = np.inf
    for j in range(begin, end):
        square = 0.0
        for d in range(AXES):
            square += (points[d, j] - points[d, i]) ** 2
        least = square if 0.0 < square < least else least
    return least


@always_inline
def _settle(
    covariance: tuple[float, float, float, float, float, float], dimension: int, at: int, normals: Float64
) -> int:
    """Write the normal of a covariance, if it is that of a patch, into column `at`. Returns OPEN or SETTLED."""
    xx, yy, zz, xy, xz, yz = covariance
    if dimension == 2:  # the third axis then has the largest variance
        zz = xx + yy
    u, v, w, least, middle, _ = least_axis(xx, yy, zz, xy, xz, yz)
    # Points on a line have no plane.
    ratio = math.sqrt(least / middle) if middle > 0.0 else 1.0
    if ratio < FLAT:
        normals[0, at], normals[1, at] = u, v
        if dimension > 2:
            normals[2, at] = w
    return SETTLED if ratio < SURE else OPEN


@always_inline
def _within(points: Float64, i: int, near: Float64, found: int, most: int, reach: float, squares: Float64) -> float:
    """The squared distance from point i within which `most` points lie; -1 if it is more than `reach`.

    The first `found` of `near` (AXES, K) are the candidates. Their squared distances are written into `squares` (K,).
    If several are as far as the last one, they are all within.
    """
    a, b, c = points[0, i], points[1, i], points[2, i]
    low, high, below, above = 0.0, reach, 0, 0
    for j in range(found):
        u, v, w = near[0, j] - a, near[1, j] - b, near[2, j] - c
        square = u * u + v * v + w * w
        squares[j] = square
        below += square <= 0.0
        above += square <= reach
    if above < most:
        return -1.0
    if below >= most:
        return 0.0
    turn = 0
    # The points within a distance on a surface are as many as its square. If not, halving ends the search.
    while above > most and high - low > EQUAL * high:
        share = (most + 0.5 - below) / (above + 0.5 - below) if turn < SECANTS or turn % 3 == 0 else 0.5
        middle, number = low + share * (high - low), 0
        if not low < middle < high:  # no number is between them
            break
        for j in range(found):
            number += squares[j] <= middle
        if number < most:
            low, below = middle, number
        else:
            high, above = middle, number
        turn += 1
    return high * (1 + EQUAL)


@always_inline
def _covariance(
    points: Float64, i: int, near: Float64, found: int, squares: Float64, most: float
) -> tuple[float, float, float, float, float, float]:
    """The covariance xx, yy, zz, xy, xz, yz of those of `near` that are within the squared distance `most` of point i.

    See `_within` for the others.
    """
    a, b, c = points[0, i], points[1, i], points[2, i]
    count, x, y, z = 0.0, 0.0, 0.0, 0.0
    xx, yy, zz, xy, xz, yz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(found):
        within = 1.0 if squares[j] <= most else 0.0
        u, v, w = near[0, j] - a, near[1, j] - b, near[2, j] - c
        p, q, r = u * within, v * within, w * within
        count += within
        x, y, z = x + p, y + q, z + r
        xx, yy, zz = xx + u * p, yy + v * q, zz + w * r
        xy, xz, yz = xy + u * q, xz + u * r, yz + v * r
    x, y, z = x / count, y / count, z / count
    return (
        xx / count - x * x,
        yy / count - y * y,
        zz / count - z * z,
        xy / count - x * y,
        xz / count - x * z,
        yz / count - y * z,
    )
