"""Hard matchings from responsibilities."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from .kernel.assignment import assign, new_search
from .kernel.truncated import UNMATCHED
from .slices import in_slices

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Maximum pairs for the dense solver, which then takes 32 MB and about a second.
DENSE_PAIRS = 1 << 22
# The cost, in nats, of leaving a point unmatched if the model has no outliers.
LEFT_OUT = 60.0


def one_to_one(log_weights: Float64) -> Int64:
    """The one-to-one matching with the largest Σ_i log w_i,match(i), from finite logs (N, M): (N,) j, or UNMATCHED.

    min(N, M) points are matched. The weights are Π_ij 𝒩_ij up to a common factor. If N <= M every point is matched, and
    log r_ij would give the same matching. If N > M it would not, because the normaliser of each row hides which points
    have no partner: their largest r_ij may also be close to 1.
    """
    rows, columns = linear_sum_assignment(-log_weights)
    match = np.full(log_weights.shape[0], UNMATCHED, dtype=np.int64)
    match[rows] = columns
    return match


def one_to_one_sparse(starts: Int64, columns: Int64, costs: Float64, out: Float64, m: int) -> Int64:
    """The one-to-one matching of least cost among given pairs; points may stay unmatched.

    Args:
        starts: (N + 1,) the pairs of point i are starts[i] to starts[i + 1] - 1.
        columns: (K,) the j of each pair.
        costs: (K,) the finite cost of each pair.
        out: (N,) the finite cost of leaving point i unmatched.
        m: the number of targets.

    Returns:
        (N,) the matched j, or UNMATCHED.
    """
    search = new_search(len(out), m, len(costs))
    in_slices(len(out), lambda first, pairs: assign(first, pairs, starts, columns, costs, out, search))
    return search.column_of


def cost_of_none(bin_weight: float) -> float:
    """The cost in nats of being unmatched: -log β, or LEFT_OUT without an outlier bin."""
    return -math.log(bin_weight) if bin_weight > 0 else LEFT_OUT
