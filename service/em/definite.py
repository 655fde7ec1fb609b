"""Observed information to covariance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# Relative to its units, the least pivot of an information that still says something about every parameter.
LEAST_PIVOT = 1e-7


def inverse(information: Float64) -> Float64 | None:
    """The inverse of `information` (p, p), or None where that is not positive definite."""
    scale = np.sqrt(np.maximum(np.diag(information), 0))
    if not np.isfinite(information).all() or not (scale > 0).all():
        return None
    # Rotations and translations have units of their own; with ones on the diagonal the factorisation is fair to both.
    units = np.outer(scale, scale)
    try:
        factor = np.linalg.cholesky(information / units)
    except np.linalg.LinAlgError:
        return None
    if np.diag(factor).min() < LEAST_PIVOT:
        return None
    half = np.linalg.inv(factor)
    return np.asarray(half.T @ half / units)


def spread_of_estimate(numbers: float, parameters: int) -> float | None:
    """By how much the covariance grows where σ was estimated from the same `numbers` as `parameters` others.

    σ² is Σ r²/numbers, too small on average by what the fit took out of the residuals, and is uncertain itself. With
    ν = numbers - parameters degrees of freedom the estimates follow a multivariate t distribution, whose covariance is
    numbers/(ν - 2) times the plain one. None where ν <= 2: then it has none.
    """
    left = numbers - parameters
    return numbers / (left - 2) if left > 2 else None
