"""Hard matchings out of soft responsibilities."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from torch import Tensor

UNMATCHED = -1
# The dense solver takes all pairs of two clouds of this many points or less together: 32 MB, and about a second.
DENSE_PAIRS = 1 << 22
# Costs a point that could have a partner and gets none, where leaving points out is not part of the model.
LEFT_OUT = 60.0


def one_to_one(log_weights: Tensor) -> Tensor:
    """The one-to-one matching of greatest Σ_i log w_i,match(i): (N, M) finite logs to (N,) int64.

    min(N, M) points are matched and the others are UNMATCHED. The weights are Π_ij 𝒩_ij up to a factor for all pairs:
    where every point is matched, N <= M, a factor for each row changes nothing, and log r_ij would give the same. Where
    N > M, a row's normaliser would hide which points have no partner: their largest r_ij is as close to 1 as any.
    """
    rows, columns = linear_sum_assignment(-log_weights.numpy(force=True))
    match = np.full(log_weights.shape[0], UNMATCHED, dtype=np.int64)
    match[rows] = columns
    return torch.from_numpy(match)


def one_to_one_sparse(
    starts: NDArray[np.int64], columns: NDArray[np.int64], costs: NDArray[np.float64], out: NDArray[np.float64], m: int
) -> NDArray[np.int64]:
    """The one-to-one matching of least cost among given pairs; points may stay without a partner.

    Args:
        starts: (N + 1,) the pairs of point i are those from starts[i] to starts[i + 1].
        columns: (K,) their j.
        costs: (K,) theirs, finite.
        out: (N,) the cost of leaving point i without a partner, finite.
        m: how many targets there are.

    Returns:
        (N,) the matched j, or UNMATCHED.
    """
    n = len(starts) - 1
    counts = np.diff(starts)
    # Every point has a column of its own that stands for "unmatched", so that there always is a full matching.
    rows = np.concatenate([np.repeat(np.arange(n), counts), np.arange(n)])
    columns_and_bins = np.concatenate([columns, m + np.arange(n)])
    weights = np.concatenate([costs, out])
    # The solver takes zeros for missing edges. A constant for each row changes no matching.
    weights = weights - weights.min() + 1.0
    graph = csr_array((weights, (rows, columns_and_bins)), shape=(n, m + n))
    matched_rows, matched = min_weight_full_bipartite_matching(graph)
    match = np.empty(n, np.int64)
    match[matched_rows] = matched
    match[match >= m] = UNMATCHED
    return match


def cost_of_none(bin_weight: float) -> float:
    """What it costs, in units of the pairs' costs, to have no partner: -log β, or LEFT_OUT without an outlier bin."""
    return -math.log(bin_weight) if bin_weight > 0 else LEFT_OUT
