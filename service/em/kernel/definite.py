"""From observed information to covariance."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled

Float64 = NDArray[np.float64]

# The least pivot, relative to the diagonal, of a matrix that counts as positive definite.
LEAST_PIVOT = 1e-7


def inverse(information: Float64) -> Float64 | None:
    """The inverse of `information` (p, p), or None if it is not positive definite."""
    out, definite = inverse_of(information)
    return out if definite else None


@compiled
def inverse_of(information: Float64) -> tuple[Float64, bool]:
    """The inverse by Cholesky's method, row by row, and whether all pivots were large enough."""
    size = len(information)
    factor, half = np.zeros((size, size)), np.zeros((size, size))
    units = np.empty(size)
    for a in range(size):
        if not 0 < information[a, a] < np.inf:
            return half, False
        # Rotations and translations have different units, so the diagonal is scaled to ones.
        units[a] = math.sqrt(information[a, a])
    for a in range(size):
        for b in range(a + 1):
            left = information[a, b] / units[a] / units[b]
            for c in range(b):
                left -= factor[a, c] * factor[b, c]
            if a != b:
                factor[a, b] = left / factor[b, b]
            elif left >= LEAST_PIVOT**2:
                factor[a, a] = math.sqrt(left)
            else:
                return half, False
    for a in range(size):
        half[a, a] = 1 / factor[a, a]
        for b in range(a):
            total = 0.0
            for c in range(b, a):
                total += factor[a, c] * half[c, b]
            half[a, b] = -total / factor[a, a]
    out = half.T @ half
    for a in range(size):
        for b in range(size):
            out[a, b] /= units[a] * units[b]
    return out, True


def small_sample_inflation(numbers: float, parameters: int) -> float | None:
    """The factor by which estimating σ from the same `numbers` as the `parameters` widens their covariance.

    σ² = Σ r²/numbers is too small on average, because the fit reduces the residuals, and is uncertain itself. With
    ν = numbers - parameters degrees of freedom the estimates follow a multivariate t distribution, whose covariance is
    numbers/(ν - 2) times the plain one. None if ν <= 2: the distribution then has no covariance.
    """
    left = numbers - parameters
    return numbers / (left - 2) if left > 2 else None
