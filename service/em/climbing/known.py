"""Data points that do not count alike: the moments of an E-step with a weight α for each of them.

The loops of the E-step treat all points alike. What differs between the points is applied to their results, which are
linear in the responsibilities.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..kernel.fitting import Sums, sums_of_rows
from ..kernel.truncated import EStep
from ..model import Known
from .information import Moments

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def sums_of_known_rows(source: Float64, dimension: int, found: EStep, known: Known) -> Sums:
    """The moments of an E-step over the source (P, N), Σ_i α_i Σ_j r_ij."""
    return sums_of_rows(source, dimension, _weighted(found, known.importance))


def sums_of_known_columns(target: Float64, dimension: int, found: EStep, known: Known) -> Sums:
    """The moments of an E-step over the target (P, M), whose payload was that of `with_products`."""
    D, rank = dimension, len(target)
    mass, weighted, residual, evidence, _, _ = _weighted(found, known.importance)
    within, across = np.zeros((D + 1, D + 1)), np.empty((D + 1, D))
    rows, columns = _products(D)
    if len(weighted) > rank:
        within[rows, columns] = within[columns, rows] = weighted[rank:].sum(1)
    within[:D, D] = within[D, :D] = weighted[:D].sum(1)
    within[D, D] = mass.sum()
    across[:D] = weighted[:D] @ target[:D].T
    across[D] = target[:D] @ mass
    return Sums(within, across, float(residual.sum()), float(evidence.sum()))


def with_products(points: Float64, dimension: int) -> Float64:
    """`points` (P, N), followed by the products of their coordinates p_d p_e, d >= e.

    With these as its payload the E-step of each data point gives Σ r p pᵀ, so that α can multiply it.
    """
    rows, columns = _products(dimension)
    return np.vstack([points, points[rows] * points[columns]])


def products(dimension: int) -> int:
    """The number of products that `with_products` adds."""
    return dimension * (dimension + 1) // 2


def weighted_moments(found: Moments, alpha: Float64) -> Moments:
    """Moments whose observed information is that of each point times its α (N,).

    The information is linear in the moments, but for products of two means ⟨·⟩⟨·⟩. The second moments make up for
    α² in place of α there.
    """
    mass, mean, second, once, square, skew, evidence = found
    excess = alpha * alpha - alpha
    return Moments(
        alpha * mass,
        alpha * mean,
        alpha * second + excess * mean[:, None] * mean,
        alpha * once,
        alpha * square + excess * once * once,
        alpha * skew + excess * mean * once,
        alpha * evidence,
    )


def _weighted(found: EStep, alpha: Float64) -> EStep:
    if not len(alpha):
        return found
    mass, weighted, residual, evidence, best, peak = found
    return EStep(alpha * mass, alpha * weighted, alpha * residual, alpha * evidence, best, peak)


@cache
def _products(dimension: int) -> tuple[Int64, Int64]:
    rows, columns = np.tril_indices(dimension)
    return rows, columns
