"""The E-step over all pairs: sums over each row's responsibilities, without ever holding them all.

A row's responsibilities are r_ij = exp(-c_ij) / Σ_k exp(-c_ik) with the cost c_ij = W ‖x_i - y_j‖² + cost_j, W the
precision in units of 1/length². One exponential a pair: the row's least cost is subtracted first, so the largest
term is 1, a row never underflows as a whole, and the largest responsibility is 1 / Σ. Rows longer than a block keep a
running minimum and rescale what they have summed when it falls.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import host
from .distances import Workspace, squared_distances, tiles

# Weights below e^-100 of the row's largest are rounded up to it: 4e-44 is lost in any double-precision sum, and exp
# of an argument below -708 takes twenty times as long on the processors that we measured.
LEAST_LOG_WEIGHT = -100.0


class Posterior(NamedTuple):
    """What one pass over the pairs says of each source point, (B, N) rows each."""

    matched: Tensor  # (B, D, N) m_i = Σ_j r_ij y_j, the target that x_i is drawn to
    log_evidence: Tensor  # (B, N) log Σ_j exp(-c_ij)
    weight: Tensor  # (B, N) Σ_j r_ij / max_j r_ij
    residual: Tensor  # (B, N) Σ_j r_ij ‖x_i - y_j‖², or NaN where it was not asked for


def posterior(
    source: Tensor, target: Tensor, cost: Tensor, precision: Tensor, space: Workspace, *, residual: bool = False
) -> Posterior:
    """One E-step: `source` (B, D, N) already moved, `target` (B, D + 1, M) homogeneous, `cost` (B, 1, M), W (B,)."""
    B, D, N = source.shape
    if source.device.type == "cpu":
        out = Posterior(
            torch.empty(B, D, N, dtype=torch.float64),
            *(torch.empty(B, N, dtype=torch.float64) for _ in range(3)),
        )
        host.posterior(*arrays(source, target, cost.expand(B, 1, -1), precision, *out))
        return out
    # Scaling the coordinates by √W costs N + M products in place of N·M.
    root = precision.sqrt()[:, None, None]
    x, y = source * root, target[:, :D] * root
    least = torch.empty(B, N, 1, dtype=torch.float64, device=source.device)
    sums = torch.empty(B, D + 1, N, dtype=torch.float64, device=source.device)
    spent = torch.empty(B, 1, N, dtype=torch.float64, device=source.device)
    for at, rows, columns, costs, spare in tiles(x, y, cost, space):
        low, total = least[at, rows], sums[at, :, rows]
        before = low.clone() if columns.start else None
        torch.amin(costs, -1, keepdim=True, out=low)
        if before is not None:
            torch.minimum(low, before, out=low)
        logits = torch.sub(low, costs, out=costs).clamp_(min=LEAST_LOG_WEIGHT)
        weights = torch.exp(logits, out=spare)
        part = torch.bmm(target[at, :, columns], weights.mT, out=total if before is None else None)
        if residual:  # Σ_j w_j c_j = low Σ_j w_j - Σ_j w_j logit_j: both terms positive, nothing cancels
            cost_sum = low.mT * part[:, D:] - logits.mul_(weights).sum(-1)[:, None]
        if before is not None:
            shrink = torch.exp(low - before).mT
            total.mul_(shrink).add_(part)
            if residual:
                cost_sum += shrink * spent[at, :, rows]
        if residual:
            spent[at, :, rows] = cost_sum
    weight = sums[:, D].contiguous()
    return Posterior(
        matched=sums[:, :D] / weight[:, None],
        log_evidence=weight.log() - least[..., 0],
        weight=weight,
        residual=spent[:, 0] / weight / precision[:, None] if residual else torch.full_like(weight, torch.nan),
    )


def arrays(*tensors: Tensor) -> list[NDArray[np.float64]]:
    """Tensors on the processor as arrays, without a copy where they are contiguous."""
    return [tensor.contiguous().numpy() for tensor in tensors]


def column_mass(
    source: Tensor,
    target: Tensor,
    cost: Tensor,
    precision: Tensor,
    log_evidence: Tensor,
    rows: Tensor,
    space: Workspace,
) -> Tensor:
    """Σ_i rows_i r_ij (B, M), given the log evidence that `posterior` found. `rows` (B, N) weighs the source."""
    B, D, _ = source.shape
    if source.device.type == "cpu":
        found = torch.empty(B, target.shape[2], dtype=torch.float64)
        host.column_mass(*arrays(source, target, cost.expand(B, 1, -1), precision, log_evidence, rows, found))
        return found
    root = precision.sqrt()[:, None, None]
    x, y = source * root, target[:, :D] * root
    # Two rows, though one is wanted: a product with a single row takes another path, whose bits depend on the batch.
    pair = torch.stack([rows, rows], 1)
    mass = torch.zeros(B, 2, target.shape[2], dtype=torch.float64, device=source.device)
    for at, down, columns, costs, _ in tiles(x, y, cost, space):
        torch.add(costs, log_evidence[at, down, None], out=costs).neg_().clamp_(min=LEAST_LOG_WEIGHT).exp_()
        mass[at, :, columns] += torch.bmm(pair[at, :, down], costs)
    return mass[:, 0]


def nearest(source: Tensor, target: Tensor, cost: Tensor, space: Workspace) -> tuple[Tensor, Tensor]:
    """For each source point the nearest target, the first among equals, and its squared distance: (B, N) each."""
    B, _, N = source.shape
    index = torch.empty(B, N, dtype=torch.int64, device=source.device)
    distance = torch.empty(B, N, dtype=torch.float64, device=source.device)
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
    out = torch.empty(1, source.shape[1], target.shape[1], dtype=torch.float64, device=source.device)
    none = torch.zeros(1, 1, 1, dtype=torch.float64, device=source.device)
    squared_distances(source[None, ..., None], target[None, :, None], none, out, torch.empty_like(out))
    return out[0].mul_(-precision)
