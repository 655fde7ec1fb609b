"""Transforms of the source: how one is applied, and the M-step that fits it to what the E-step matched.

Today there is one, the translation T: y = p + T. Its M-step, the maximiser of -Σ_ij r_ij ‖p_i + T - q_j‖², is the mean
over i of Σ_j r_ij (q_j - p_i).
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

    σ² = (Σ_ij r_ij ‖x_i + τ - y_j‖² / N - ‖step‖²) / D, at least floor². `residual` (B, N) holds the inner sums at any
    translation τ (B, D), and `step` is the fitted translation minus τ: the fitted one is the minimiser, so the sum
    there is smaller by exactly N ‖step‖².
    """
    mean = (residual * weights).sum(-1) / weights.sum(-1)
    variance = (mean - step.square().sum(-1)) / step.shape[-1]
    # A maximum over σ >= floor of a function with one peak: clipping the peak is exact.
    return torch.maximum(variance, floor.square()).sqrt()


class Average(NamedTuple):
    """Σ_s w_s ‖x + t_s - y‖² = weight ‖x + mean - y‖² + drift for any x and y: a sum of squares in three numbers."""

    weight: Tensor  # (B,) W = Σ_s w_s
    mean: Tensor  # (B, D) Σ_s w_s t_s / W
    drift: Tensor  # (B,) Σ_s w_s ‖t_s - mean‖²


def single(translation: Tensor, weight: Tensor) -> Average:
    """The average of one translation (B, D) with one weight (B,)."""
    return Average(weight, translation, torch.zeros_like(weight))


def include(average: Average, translation: Tensor, weight: Tensor) -> Average:
    """The average with one more translation, by Welford's update: the drift is a sum of squares and never cancels."""
    total = average.weight + weight
    step = translation - average.mean
    share = weight / total
    return Average(
        total,
        average.mean + share[:, None] * step,
        average.drift + average.weight * share * step.square().sum(-1),
    )
