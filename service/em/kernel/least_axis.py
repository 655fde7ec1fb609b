"""The axis of least variance of points in space, by arithmetic alone: a call of a library would take longer."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..jit import always_inline

Float64 = NDArray[np.float64]

# Steps of Newton's method for the least variance. Where it is less than half the next one, they give ten digits.
STEPS = 5
# The variance across a line, relative to that along it, below which rounding would choose the axis.
LINE = 1e-8
# The least sum of the variances. That of a smaller one has no reciprocal.
LEAST = 1e-290


@always_inline
def least_axis(
    xx: float, yy: float, zz: float, xy: float, xz: float, yz: float
) -> tuple[float, float, float, float, float, float]:
    """The unit axis of least variance for a covariance matrix, and the variances in rising order.

    For points on a line it is any axis across, and the variances across are zero. In a plane, give the third coordinate
    a variance that is larger than the others: the axis then lies in the plane.

    λ is the least root of the characteristic polynomial. That is concave below λ, so that Newton's method rises from
    zero. The columns of the adjugate of C - λI are multiples of the axis. λ and the axis are then computed once more,
    with λ from Rayleigh's quotient, because the polynomial has lost digits if one variance is much the largest.
    """
    total = xx + yy + zz
    if not total > LEAST:
        return 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    unit = 1.0 / total
    xx, yy, zz, xy, xz, yz = xx * unit, yy * unit, zz * unit, xy * unit, xz * unit, yz * unit
    minors = (xx * yy - xy * xy) + (xx * zz - xz * xz) + (yy * zz - yz * yz)
    if not minors > LINE:
        u, v, w = -xy, xx, 0.0  # across the longest column
        if yy > xx and yy >= zz:
            u, v = -yy, xy
        elif zz > xx:
            u, v, w = -zz, 0.0, xz
        scale = 1.0 / math.sqrt(u * u + v * v + w * w)
        return u * scale, v * scale, w * scale, 0.0, 0.0, total
    determinant = xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)
    least = 0.0
    for _ in range(STEPS):
        rise = determinant - least * (minors - least * (1.0 - least))
        least += rise / (minors - least * (2.0 - 3.0 * least))
    u, v, w = _kernel(xx - least, yy - least, zz - least, xy, xz, yz)
    least = max(xx * u * u + yy * v * v + zz * w * w + 2.0 * (xy * u * v + xz * u * w + yz * v * w), 0.0)
    u, v, w = _kernel(xx - least, yy - least, zz - least, xy, xz, yz)
    # The sum and the product of the two others.
    both = 1.0 - least
    product = minors - least * both
    largest = 0.5 * (both + math.sqrt(max(both * both - 4.0 * product, 0.0)))
    return u, v, w, least * total, product / largest * total, largest * total


@always_inline
def _kernel(xx: float, yy: float, zz: float, xy: float, xz: float, yz: float) -> tuple[float, float, float]:
    """The unit vector that a symmetric matrix maps to zero: its adjugate's longest column."""
    first, second, third = yy * zz - yz * yz, xx * zz - xz * xz, xx * yy - xy * xy
    u, v, w = first, xz * yz - xy * zz, xy * yz - xz * yy
    if abs(second) > abs(first) and abs(second) >= abs(third):
        u, v, w = v, second, xy * xz - xx * yz
    elif abs(third) > abs(first):
        u, v, w = w, xy * xz - xx * yz, third
    square = u * u + v * v + w * w
    if not square > LEAST:  # it maps all vectors to zero
        return 1.0, 0.0, 0.0
    scale = 1.0 / math.sqrt(square)
    return u * scale, v * scale, w * scale
