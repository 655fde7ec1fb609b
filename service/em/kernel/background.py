"""The smooth density of a cloud: what its outline tells, and nothing finer.

Where a match is to be told from chance, chance is this density: a point of one cloud falls next to one of the other
wherever both are dense, whether or not they belong together.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# What a place far from all points has, in kernels: it is not impossible to be there.
LEAST = 0.1
# Points whose kernels are summed at a time.
BLOCK = 256


def density(at: Float64, others: Float64, width: float, dimension: int) -> Float64:
    """The density (n,), per unit of length^D, of `others` (P, m) at `at` (P, n): Gaussian kernels of this `width`.

    The first points of both are the same, as many as both have; each is left out of its own density.
    """
    n, m = at.shape[1], others.shape[1]
    if m < 2 or width <= 0:
        return np.ones(n)
    total = np.zeros(n)
    for first in range(0, n, BLOCK):
        x = at[:dimension, first : first + BLOCK]
        squares = np.zeros((x.shape[1], m))
        for d in range(dimension):
            squares += (x[d, :, None] - others[d]) ** 2
        total[first : first + BLOCK] = np.exp(squares * (-0.5 / width**2)).sum(1)
    total[:m] -= 1  # the kernel of a point at itself
    return np.asarray(np.maximum(total, LEAST) / (m - 1) * (2 * math.pi * width * width) ** (-dimension / 2))
