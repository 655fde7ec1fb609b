"""The M-step in closed form: the transform that fits the source to what the E-step matched it with.

A transform is B = [A | t] (D, D + 1), x = A p + t. All kinds minimise Σ_ij r_ij ‖A p_i + t - q_j‖², which depends on
the responsibilities through a few moments only (`Sums`):

- translation: A stays, t = mean(q) - A mean(p), all means weighted by r;
- rigid: A is the rotation nearest to the cross-covariance, by its singular value decomposition with the sign of the
  last axis set so that det A = +1 (Kabsch 1976; Umeyama 1991, eq. 40-42);
- similarity: that rotation times s = tr(Aᵀ C) / var(p) (Umeyama 1991, eq. 42);
- affine: A = C' var(p)^-1, weighted linear regression.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.em.jit import compiled
from service.em.truncated import Rows

Float64 = NDArray[np.float64]

TRANSLATION, RIGID, SIMILARITY, AFFINE = range(4)
KINDS = {"translation": TRANSLATION, "rigid": RIGID, "similarity": SIMILARITY, "affine": AFFINE}


class Sums(NamedTuple):
    """Moments of the pairs, weighted by r_ij; p̃ is p with a 1 behind it, so that means and total are among them."""

    within: Float64  # (D + 1, D + 1) Σ r p̃ p̃ᵀ
    across: Float64  # (D + 1, D) Σ r p̃ qᵀ
    spent: float  # Σ r ‖x_i - y_j‖² at the transform of the E-step
    evidence: float  # Σ log z


@compiled
def move(transform: Float64, points: Float64, out: Float64) -> None:
    """x = A p + t: `points` and `out` (P, N), of which the first D coordinates count."""
    dimension = transform.shape[0]
    count = points.shape[1]
    for d in range(dimension):
        shift = transform[d, dimension]
        for i in range(count):
            out[d, i] = shift
        for e in range(dimension):
            factor = transform[d, e]
            if factor != 0:
                for i in range(count):
                    out[d, i] += factor * points[e, i]


@compiled
def sums_of_rows(source: Float64, dimension: int, found: Rows) -> Sums:
    """The moments where each source point was matched with targets: `found` belongs to `source` (P, N)."""
    n = source.shape[1]  # `found` may have room for more
    within = np.zeros((dimension + 1, dimension + 1))
    across = np.zeros((dimension + 1, dimension))
    for d in range(dimension):
        for e in range(d + 1):
            total = 0.0
            for i in range(n):
                total += found.mass[i] * source[d, i] * source[e, i]
            within[d, e] = within[e, d] = total
        total = 0.0
        for i in range(n):
            total += found.mass[i] * source[d, i]
        within[d, dimension] = within[dimension, d] = total
        for e in range(dimension):
            total = 0.0
            for i in range(n):
                total += source[d, i] * found.drawn[e, i]
            across[d, e] = total
        across[dimension, d] = found.drawn[d, :n].sum()
    within[dimension, dimension] = found.mass[:n].sum()
    return Sums(within, across, found.spent[:n].sum(), found.evidence[:n].sum())


@compiled
def sums_of_columns(source: Float64, target: Float64, dimension: int, found: Rows, columns: Float64) -> Sums:
    """The moments where each target point was matched with sources.

    `found` belongs to `target` (P, M), and its `drawn` are sums of the sources as they were before the transform;
    `columns` (N,) are Σ_j r_ij of `source` (P, N).
    """
    m = target.shape[1]  # `found` may have room for more
    within = np.zeros((dimension + 1, dimension + 1))
    across = np.zeros((dimension + 1, dimension))
    for d in range(dimension):
        for e in range(d + 1):
            within[d, e] = within[e, d] = (columns * source[d] * source[e]).sum()
        within[d, dimension] = within[dimension, d] = found.drawn[d, :m].sum()
        for e in range(dimension):
            across[d, e] = (found.drawn[d, :m] * target[e]).sum()
        across[dimension, d] = (found.mass[:m] * target[d]).sum()
    within[dimension, dimension] = found.mass[:m].sum()
    return Sums(within, across, found.spent[:m].sum(), found.evidence[:m].sum())


@compiled
def fit(kind: int, transform: Float64, sums: Sums) -> Float64:
    """The best transform (D, D + 1) of its kind; `transform` gives the A that a translation keeps.

    Where the moments say nothing, since no pair has weight, `transform` itself.
    """
    dimension = transform.shape[0]
    total = sums.within[dimension, dimension]
    if not total > 0:
        return transform.copy()
    p = sums.within[dimension, :dimension] / total
    q = sums.across[dimension] / total
    linear: Float64 = np.ascontiguousarray(transform[:, :dimension])
    if kind != TRANSLATION:
        # Cross-covariance, target by source.
        cross = np.empty((dimension, dimension))
        spread = np.empty((dimension, dimension))
        for d in range(dimension):
            for e in range(dimension):
                cross[d, e] = sums.across[e, d] / total - q[d] * p[e]
                spread[d, e] = sums.within[d, e] / total - p[d] * p[e]
        if kind == AFFINE:
            ridge = 1e-12 * np.trace(spread)
            if not ridge > 0:
                return transform.copy()
            for d in range(dimension):
                spread[d, d] += ridge
            linear = np.ascontiguousarray(np.linalg.solve(spread, np.ascontiguousarray(cross.T)).T)
        else:
            linear = rotation(cross)
        if kind == SIMILARITY:
            variance = np.trace(spread)
            if variance > 0:
                linear = linear * ((linear * cross).sum() / variance)
    out = np.empty((dimension, dimension + 1))
    out[:, :dimension] = linear
    out[:, dimension] = q - linear @ p
    return out


@compiled
def rotation(cross: Float64) -> Float64:
    """The proper rotation R (D, D) that maximises tr(Rᵀ C)."""
    u, _, vt = np.linalg.svd(cross)
    if np.linalg.det(u) * np.linalg.det(vt) < 0:
        u[:, -1] = -u[:, -1]
    turned: Float64 = u @ vt
    return turned


@compiled
def spent_after(sums: Sums, before: Float64, after: Float64) -> float:
    """Σ r_ij ‖A p_i + t - q_j‖² at `after`, from what was `spent` at `before` and a difference that cancels little."""
    dimension = before.shape[0]
    step = after - before
    total = sums.spent
    for d in range(dimension):
        for a in range(dimension + 1):
            reach = -sums.across[a, d]
            for b in range(dimension + 1):
                reach += sums.within[a, b] * (before[d, b] + 0.5 * step[d, b])
            total += 2 * step[d, a] * reach
    return max(total, 0.0)


def mean_square_step(within: Float64, before: Float64, after: Float64) -> float:
    """How far the points moved from one transform to the other: mean ‖x' - x‖², from Σ p̃ p̃ᵀ (D + 1, D + 1)."""
    total = float(within[-1, -1])
    step = after - before
    return float(np.einsum("da,ab,db->", step, within, step)) / total if total > 0 else 0.0
