"""Sums of Gaussian kernels, and the logarithms of their densities.

The exponential of a kernel is a power of that of a kernel whose width is larger by a power of √2. A family of such
kernels costs one exponential for each pair.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..jit import always_inline, compiled
from ..kernel.cells import ONE_CELL, Cells
from ..kernel.truncated import exp_of, neighbours, squares_from
from ..model import log_root

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]

# The least smooth density, in kernels.
LEAST = 0.1
# The exponent at which the widest kernel of a family is cut off, and the bound of a narrow one: their 16th powers are
# normal numbers, which the processor multiplies faster.
CUTOFF, TINY = 40.0, 1e-18


@compiled
def kernel(squares: Float64, count: int, width: float) -> float:
    """The sum of kernels of this width at these squared distances."""
    precision, total = 0.5 / (width * width), 0.0
    for j in range(count):
        total += exp_of(-squares[j] * precision)
    return total


@compiled
def wide_kernels(squares: Float64, count: int, width: float, out: Float64) -> None:
    """The sums (5,) of kernels of the widths `width` / √2^k."""
    precision = 0.5 / (width * width)
    a, b, c, d, e = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(count):
        one = exp_of(max(-squares[j] * precision, -CUTOFF))
        two = one * one
        four = two * two
        eight = four * four
        a, b, c, d, e = a + one, b + two, c + four, d + eight, e + eight * eight
    out[0], out[1], out[2], out[3], out[4] = a, b, c, d, e


@compiled
def narrow_kernels(squares: Float64, count: int, width: float, out: Float64) -> None:
    """The sums (5,) of kernels of the widths `width` / 2^k."""
    precision = 0.5 / (width * width)
    a, b, c, d, e = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(count):
        one = exp_of(max(-squares[j] * precision, -CUTOFF))
        # Two squares: the fourth power. The bound keeps the next ones normal numbers.
        half = one * one
        half *= half
        quarter = half * half
        quarter = max(quarter * quarter, TINY)
        eighth = quarter * quarter
        eighth *= eighth
        sixteenth = eighth * eighth
        a, b, c, d, e = a + one, b + half, c + quarter, d + eighth, e + sixteenth * sixteenth
    out[0], out[1], out[2], out[3], out[4] = a, b, c, d, e


@always_inline
def log_density(total: float, size: int, width: float, dimension: int) -> float:
    """The logarithm of the density of `size` kernels of this width, whose sum is `total`."""
    return math.log(max(total, 1e-300) / size) - dimension * log_root(width)


@always_inline
def log_smooth(total: float, size: int, width: float, dimension: int) -> float:
    """The same with a lower bound, so that a point that is far from all others is no evidence."""
    return log_density(max(total, LEAST), size, width, dimension)


@always_inline
def within(x: Float64, i: int, grid: Cells, reach: float, index: Int32, squares: Float64) -> int:
    """Write the squared distances from x_i to the points of the grid within the squared distance `reach`, or to all."""
    if len(grid.starts) == ONE_CELL:
        squares_from(x, i, grid.points, squares)
        return grid.points.shape[1]  # type: ignore[no-any-return]
    return neighbours(x, i, grid, reach, index, squares)[0]
