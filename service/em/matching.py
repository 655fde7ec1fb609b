"""Hard matchings out of soft responsibilities."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

UNMATCHED = -1


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
