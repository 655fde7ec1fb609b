"""The compiled loops of the batched engine, item by item, so that the rounding of an item is independent of its batch.

The kernel of a batched matrix product, and with it the order of its sums, depends on the shape of the whole batch and
on the processor's vendor. These loops process one item at a time.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.truncated import exp_of

Float64 = NDArray[np.float64]


@compiled
def posterior(
    source: Float64,
    target: Float64,
    cost: Float64,
    precision: Float64,
    sums: Float64,
    log_evidence: Float64,
    weight: Float64,
    residual: Float64,
) -> None:
    """The loop of `posterior.posterior`, which has the formulas.

    Args:
        source: (B, D, N), moved.
        target: (B, D + 1, M), homogeneous.
        cost: (B, 1, M)
        precision: (B,)
        sums: (B, D, N), overwritten with m.
        log_evidence: (B, N), overwritten, and so are
        weight: (B, N) and
        residual: (B, N).
    """
    items, dimension, n = source.shape
    m = target.shape[2]
    squares, terms = np.empty(m), np.empty(m)
    for b in range(items):
        w = precision[b]
        for i in range(n):
            for j in range(m):
                squares[j] = 0.0
            for d in range(dimension):
                x = source[b, d, i]
                for j in range(m):
                    u = x - target[b, d, j]
                    squares[j] += u * u
            least = np.inf
            for j in range(m):
                terms[j] = squares[j] * w + cost[b, 0, j]
                least = min(least, terms[j])
            total, weighted_squares = 0.0, 0.0
            for j in range(m):
                terms[j] = exp_of(least - terms[j]) * target[b, dimension, j]
                total += terms[j]
                weighted_squares += terms[j] * squares[j]
            for d in range(dimension):
                weighted_target = 0.0
                for j in range(m):
                    weighted_target += terms[j] * target[b, d, j]
                sums[b, d, i] = weighted_target / total
            log_evidence[b, i] = math.log(total) - least
            weight[b, i] = total
            residual[b, i] = weighted_squares / total


@compiled
def column_mass(
    source: Float64,
    target: Float64,
    cost: Float64,
    precision: Float64,
    log_evidence: Float64,
    rows: Float64,
    mass: Float64,
) -> None:
    """The loop of `posterior.column_mass`; overwrites `mass` (B, M). The other shapes are those of `posterior`."""
    items, dimension, n = source.shape
    m = target.shape[2]
    squares = np.empty(m)
    for b in range(items):
        w = precision[b]
        for j in range(m):
            mass[b, j] = 0.0
        for i in range(n):
            for j in range(m):
                squares[j] = 0.0
            for d in range(dimension):
                x = source[b, d, i]
                for j in range(m):
                    u = x - target[b, d, j]
                    squares[j] += u * u
            for j in range(m):
                mass[b, j] += rows[b, i] * exp_of(min(-squares[j] * w - cost[b, 0, j] - log_evidence[b, i], 0.0))


@compiled
def scatter(points: Float64, weights: Float64, out: Float64) -> None:
    """Write Σ_i w_i x_i x_iᵀ into `out` (B, D, D), for points (B, D, N) and weights (B, N)."""
    items, dimension, n = points.shape
    for b in range(items):
        for d in range(dimension):
            for e in range(d + 1):
                total = 0.0
                for i in range(n):
                    total += weights[b, i] * points[b, d, i] * points[b, e, i]
                out[b, d, e] = out[b, e, d] = total
