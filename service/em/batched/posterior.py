"""The E-step over all pairs: sums over each row's responsibilities, in O(N + M) memory.

A row's responsibilities are r_ij = exp(-c_ij) / Σ_k exp(-c_ik) with the cost c_ij = W ‖x_i - y_j‖² + cost_j, W the
precision in units of 1/length². Each pair takes one exponential. The row's least cost is subtracted first, so the
largest term is 1, no row underflows as a whole, and the largest responsibility is 1 / Σ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..slices import blocks, in_slices
from . import loops
from .distances import Workspace, squared_distances, tiles


class Posterior(NamedTuple):
    """The sums of one pass over the pairs, one for each source point."""

    matched: Tensor  # (B, D, N) m_i = Σ_j r_ij y_j
    log_evidence: Tensor  # (B, N) log Σ_j exp(-c_ij)
    weight: Tensor  # (B, N) Σ_j r_ij / max_j r_ij
    residual: Tensor  # (B, N) Σ_j r_ij ‖x_i - y_j‖²


def posterior(source: Tensor, target: Tensor, cost: Tensor, precision: Tensor) -> Posterior:
    """One E-step: `source` (B, D, N) already moved, `target` (B, D + 1, M) homogeneous, `cost` (B, 1, M), W (B,)."""
    B, D, N = source.shape
    out = Posterior(
        torch.empty(B, D, N, dtype=torch.float64),
        *(torch.empty(B, N, dtype=torch.float64) for _ in range(3)),
    )
    arguments = arrays(source, target, cost.expand(B, 1, -1), precision, *out)
    in_slices(B * N, lambda first, pairs: loops.posterior(first, pairs, *arguments))
    return out


def arrays(*tensors: Tensor) -> list[NDArray[np.float64]]:
    """The tensors as arrays, without a copy where they are contiguous."""
    return [tensor.contiguous().numpy() for tensor in tensors]


def column_mass(
    source: Tensor,
    target: Tensor,
    cost: Tensor,
    precision: Tensor,
    log_evidence: Tensor,
    rows: Tensor,
) -> Tensor:
    """Σ_i rows_i r_ij (B, M), given the log evidence that `posterior` found. `rows` (B, N) weighs the source."""
    B, _, N = source.shape
    found = torch.zeros(B, target.shape[2], dtype=torch.float64)
    arguments = arrays(source, target, cost.expand(B, 1, -1), precision, log_evidence, rows, found)
    in_slices(B * N, lambda first, pairs: loops.column_mass(first, pairs, *arguments))
    return found


def nearest(source: Tensor, target: Tensor, cost: Tensor, space: Workspace) -> tuple[Tensor, Tensor]:
    """For each source point the nearest target, the first among equals, and its squared distance: (B, N) each."""
    B, _, N = source.shape
    index = torch.empty(B, N, dtype=torch.int64)
    distance = torch.empty(B, N, dtype=torch.float64)
    for at, rows, columns, costs, _ in tiles(source, target, cost, space):
        found = costs.argmin(-1)
        low = costs.gather(-1, found[..., None])[..., 0]
        if columns.start:
            found += columns.start
            better = low < distance[at, rows]
            found = torch.where(better, found, index[at, rows])
            low = torch.where(better, low, distance[at, rows])
        index[at, rows], distance[at, rows] = found, low
    return index, distance


def log_weights(source: Tensor, target: Tensor, precision: Tensor) -> Tensor:
    """-W ‖x_i - y_j‖² (N, M), whose row-wise softmax is R: `source` (D, N) moved, `target` (D, M), W ()."""
    n, m = source.shape[1], target.shape[1]
    out = torch.empty(1, n, m, dtype=torch.float64)
    none = torch.zeros(1, 1, 1, dtype=torch.float64)
    for some in blocks(n, m):
        part = out[:, some]
        squared_distances(source[None, :, some, None], target[None, :, None], none, part, torch.empty_like(part))
        part.mul_(-precision)
    return out[0]
