"""The smooth density of a cloud, which resolves its outline and nothing finer.

It is the density of chance matches: where both clouds are dense, a point of one is near a point of the other whether
or not they belong together.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# The least density, in kernels: no place is impossible.
LEAST = 0.1
# Points whose kernels are summed at a time.
BLOCK = 256


def density(at: Float64, others: Float64, width: float, dimension: int) -> Float64:
    """The density (n,), per unit of length^D, of `others` (P, m) at `at` (P, n): Gaussian kernels of this `width`.

    The first points of both clouds are the same points; each is left out of its own density.
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
