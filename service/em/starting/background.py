"""The smooth density of a cloud, which resolves its outline and nothing finer.

It is the density of chance matches: where both clouds are dense, points of one are near points of the other by chance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..model import log_root
from ..slices import pause

Float64 = NDArray[np.float64]

# The least density, in kernels, so that the density is nowhere 0.
LEAST = 0.1
# The square of a smaller width would underflow; the points then are in one place.
LEAST_WIDTH = 1e-100
# Points in a block of the sum, which bounds memory.
BLOCK = 256


def log_density(at: Float64, others: Float64, width: float, dimension: int) -> Float64:
    """The logarithm (n,) of the density of `others` (P, m) at `at` (P, n), by Gaussian kernels of this `width`.

    The density is per unit of length^D. It could overflow in many dimensions, but its logarithm does not. The first
    min(n, m) points of both clouds must be the same, and each is omitted from its own density. All densities are 1 if
    `width` is below LEAST_WIDTH or m < 2.
    """
    n, m = at.shape[1], others.shape[1]
    if m < 2 or width < LEAST_WIDTH:
        return np.zeros(n)
    total = np.zeros(n)
    for first in range(0, n, BLOCK):
        pause()
        x = at[:dimension, first : first + BLOCK]
        squares = np.zeros((x.shape[1], m))
        for d in range(dimension):
            squares += (x[d, :, None] - others[d]) ** 2
        total[first : first + BLOCK] = np.exp(squares * (-0.5 / width**2)).sum(1)
    total[:m] -= 1  # the kernel of a point at itself
    return np.asarray(np.log(np.maximum(total, LEAST) / (m - 1)) - dimension * log_root(width))
