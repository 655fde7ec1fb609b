"""All triangles of a few points, and the poses between two that are congruent or similar.

A triangle has a canonical order: its longest side comes first, and the third corner is nearer to the end of that side
than to its beginning. In units of that side the third corner is at (u, v). Triangles are similar if u and v agree, and
congruent if their longest sides do, too. In the plane the sign of v tells a triangle from its mirror image.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# In space, the least height of a triangle, in units of its longest side, that determines a pose.
LEAST_HEIGHT = 0.05


class Triangles(NamedTuple):
    """Triangles in canonical order."""

    corners: Int64  # (T, 3)
    side: Float64  # (T,) the longest side
    u: Float64  # (T,)
    v: Float64  # (T,)


def triangles(points: Float64, dimension: int, slack: float) -> Triangles:
    """All triangles of `points` (n, 3), in every order that is canonical if lengths may err by `slack`."""
    n = len(points)
    most = n * (n - 1) * (n - 2)
    corners, shape = np.empty((most, 3), np.int64), np.empty((3, most))
    count = _list(points, dimension == 2, slack, corners, shape)
    return Triangles(corners[:count], *(row[:count].copy() for row in shape))


@compiled
def _list(points: Float64, flat: bool, slack: float, corners: Int64, shape: Float64) -> int:
    n, count = len(points), 0
    for p in range(n):
        for q in range(n):
            if p == q:
                continue
            side, to_q = 0.0, points[q] - points[p]
            for d in range(3):
                side += to_q[d] * to_q[d]
            side = math.sqrt(side)
            if not side > 4 * slack:
                continue
            for r in range(n):
                if r in (p, q):
                    continue
                along, square = 0.0, 0.0
                for d in range(3):
                    to_r = points[r, d] - points[p, d]
                    along += to_r * to_q[d]
                    square += to_r * to_r
                u = along / (side * side)
                if u < 0.5 - slack / side or math.sqrt(square) > side + slack:
                    continue
                height = math.sqrt(max(square / (side * side) - u * u, 0.0))
                if flat:
                    left = to_q[0] * (points[r, 1] - points[p, 1]) - to_q[1] * (points[r, 0] - points[p, 0])
                    height = math.copysign(height, left)
                elif height < LEAST_HEIGHT:
                    continue
                corners[count, 0], corners[count, 1], corners[count, 2] = p, q, r
                shape[0, count], shape[1, count], shape[2, count] = side, u, height
                count += 1
    return count


@compiled
def pose_between(
    source: Float64, target: Float64, own: Int64, other: Int64, scale: float, flat: bool, out: Float64
) -> None:
    """The pose (3, 4) that moves a triangle `own` (3,) of `source` (n, 3) to `other` (3,) of `target` (m, 3).

    Their middles and their planes coincide, and their longest sides are parallel.
    """
    axes, others = np.empty((3, 3)), np.empty((3, 3))
    _axes(source, own, flat, axes)
    _axes(target, other, flat, others)
    for d in range(3):
        middle = 0.0
        for k in range(3):
            middle += target[other[k], d] / 3
        for e in range(3):
            out[d, e] = 0.0
            for k in range(3):
                out[d, e] += scale * others[k, d] * axes[k, e]
            for k in range(3):
                middle -= out[d, e] * source[own[k], e] / 3
        out[d, 3] = middle


@compiled
def _axes(points: Float64, corners: Int64, flat: bool, out: Float64) -> None:
    """Orthonormal axes, in rows: along the longest side, towards the third corner, and across."""
    p, q, r = points[corners[0]], points[corners[1]], points[corners[2]]
    length, height = 0.0, 0.0
    for d in range(3):
        out[0, d] = q[d] - p[d]
        length += out[0, d] ** 2
    for d in range(3):
        out[0, d] /= math.sqrt(length)
    if flat:
        out[1, 0], out[1, 1], out[1, 2] = -out[0, 1], out[0, 0], 0.0
    else:
        along = 0.0
        for d in range(3):
            along += (r[d] - p[d]) * out[0, d]
        for d in range(3):
            out[1, d] = r[d] - p[d] - along * out[0, d]
            height += out[1, d] ** 2
        for d in range(3):
            out[1, d] /= math.sqrt(height)
    for d in range(3):
        e, f = (d + 1) % 3, (d + 2) % 3
        out[2, d] = out[0, e] * out[1, f] - out[0, f] * out[1, e]
