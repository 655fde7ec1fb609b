"""The translation y = p + T and its M-step.

The maximiser of -Σ_ij r_ij ‖p_i + T - q_j‖² is the mean over i of Σ_j r_ij (q_j - p_i).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def translate(source: Tensor, translation: Tensor) -> Tensor:
    """x_i + t: (B, D, N) moved by (B, D)."""
    return source + translation[..., None]


def fit_translation(source: Tensor, matched: Tensor, weights: Tensor) -> Tensor:
    """t = Σ_i w_i (m_i - x_i) / Σ_i w_i (B, D): `source` and `matched` (B, D, N), `weights` (B, N) not all zero."""
    return ((matched - source) * weights[:, None]).sum(-1) / weights.sum(-1)[:, None]


def fit_sigma(residual: Tensor, weights: Tensor, step: Tensor, floor: Tensor) -> Tensor:
    """The σ (B,) that maximises the expected log-likelihood next to the fitted translation.

    σ² = (Σ_ij r_ij ‖x_i + τ - y_j‖² / N - ‖step‖²) / D, at least floor². `residual` (B, N) has the inner sums at any
    translation τ (B, D), `weights` (B, N) the weights of the points, `step` (B, D) is the fitted translation minus τ,
    and `floor` is (B,). The fitted translation is the minimiser, so the sum there is smaller by exactly N ‖step‖².
    """
    mean = (residual * weights).sum(-1) / weights.sum(-1)
    variance = (mean - step.square().sum(-1)) / step.shape[-1]
    # The function has one peak, so clipping the peak gives its maximum over σ >= floor exactly.
    return torch.maximum(variance, floor.square()).sqrt()


class Average(NamedTuple):
    """Translations t_s with weights: Σ_s w_s ‖x + t_s - y‖² = weight ‖x + mean - y‖² + drift for any x and y."""

    weight: Tensor  # (B,) W = Σ_s w_s
    mean: Tensor  # (B, D) Σ_s w_s t_s / W
    drift: Tensor  # (B,) Σ_s w_s ‖t_s - mean‖²


def single(translation: Tensor, weight: Tensor) -> Average:
    """The average of one translation (B, D) with one weight (B,)."""
    return Average(weight, translation, torch.zeros_like(weight))


def include(average: Average, translation: Tensor, weight: Tensor) -> Average:
    """The average with one more translation (B, D) of weight (B,), by Welford's update.

    The drift is a sum of squares, so there is no cancellation.
    """
    total = average.weight + weight
    step = translation - average.mean
    share = weight / total
    return Average(
        total,
        average.mean + share[:, None] * step,
        average.drift + average.weight * share * step.square().sum(-1),
    )
