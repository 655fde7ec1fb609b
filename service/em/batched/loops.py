"""The compiled loops of the batched engine, item by item, so that the rounding of an item is independent of its batch.

The kernel of a batched matrix product, and with it the order of its sums, depends on the shape of the whole batch and
on the processor's vendor. These loops process one item at a time.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.cells import AXES
from ..kernel.truncated import exp_of
from ..slices import ROW_PAIRS

Float64 = NDArray[np.float64]


@compiled
def posterior(
    first: int,
    pairs: int,
    source: Float64,
    target: Float64,
    cost: Float64,
    precision: Float64,
    sums: Float64,
    log_evidence: Float64,
    weight: Float64,
    residual: Float64,
) -> int:
    """The loop of `posterior.posterior`, which has the formulas. Returns the next row of all B · N rows.

    Args:
        first: the row to begin with.
        pairs: about how many to visit, at least one row's.
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
    work = m * (dimension + 2) // AXES + ROW_PAIRS
    last = min(first + max(pairs // work, 1), items * n)
    for b in range(first // n, -(-last // n)):
        w = precision[b]
        for i in range(max(first - b * n, 0), min(last - b * n, n)):
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
    return int(last)


@compiled
def column_mass(
    first: int,
    pairs: int,
    source: Float64,
    target: Float64,
    cost: Float64,
    precision: Float64,
    log_evidence: Float64,
    rows: Float64,
    mass: Float64,
) -> int:
    """The loop of `posterior.column_mass`; adds to `mass` (B, M). The others are those of `posterior`."""
    items, dimension, n = source.shape
    m = target.shape[2]
    squares = np.empty(m)
    work = m * (dimension + 2) // AXES + ROW_PAIRS
    last = min(first + max(pairs // work, 1), items * n)
    for b in range(first // n, -(-last // n)):
        w = precision[b]
        for i in range(max(first - b * n, 0), min(last - b * n, n)):
            for j in range(m):
                squares[j] = 0.0
            for d in range(dimension):
                x = source[b, d, i]
                for j in range(m):
                    u = x - target[b, d, j]
                    squares[j] += u * u
            for j in range(m):
                mass[b, j] += rows[b, i] * exp_of(min(-squares[j] * w - cost[b, 0, j] - log_evidence[b, i], 0.0))
    return int(last)


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
