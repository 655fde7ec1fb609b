"""Hard matchings out of soft responsibilities."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

UNMATCHED = -1


def one_to_one(log_responsibilities: Tensor) -> Tensor:
    """The one-to-one matching of greatest Σ_i log r_i,match(i): (N, M) finite logs to (N,) int64.

    min(N, M) points are matched and the others are UNMATCHED.
    """
    rows, columns = linear_sum_assignment(-log_responsibilities.numpy(force=True))
    match = np.full(log_responsibilities.shape[0], UNMATCHED, dtype=np.int64)
    match[rows] = columns
    return torch.from_numpy(match)
