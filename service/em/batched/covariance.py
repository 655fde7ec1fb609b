"""The covariance of the translation: the inverse of the observed information."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..kernel.definite import inverse, small_sample_inflation
from . import loops
from .padding import Group
from .posterior import Posterior, arrays, column_mass


def translation_information(group: Group, moved: Tensor, post: Posterior, precision: Tensor, sigma: Tensor) -> Tensor:
    """σ² times the observed information, (B, D, D): Σ_i [I - Cov_{r_i}(q) / σ²].

    The information is minus the Hessian in T of the observed-data log-likelihood Σ_i log Σ_j Π_ij N(q_j; p_i + T, σ²)
    with Π held fixed; r_i are the responsibilities at these parameters. With c_j = Σ_i r_ij, the covariances sum
    to Σ_j c_j y_j y_jᵀ - Σ_i m_i m_iᵀ: correct to the rounding of the squared spread, (spread/σ)² · 1e-16 relatively.
    `post` is `posterior(moved, ..., precision)`.
    """
    D = group.dimension
    mass = column_mass(moved, group.target, group.cost, precision, post.log_evidence, group.rows)
    between, within = _scatter(group.target[:, :D], mass), _scatter(post.matched, group.rows)
    spread = (between - within) / sigma.square()[:, None, None]
    identity = torch.eye(D, dtype=torch.float64)
    information = group.source_count[:, None, None] * identity - spread
    return (information + information.mT) / 2


def _scatter(points: Tensor, weights: Tensor) -> Tensor:
    """Σ_i w_i x_i x_iᵀ (B, D, D) of points (B, D, N) with weights (B, N)."""
    B, D, _ = points.shape
    out = torch.empty(B, D, D, dtype=torch.float64)
    loops.scatter(*arrays(points, weights, out))
    return out


def covariances(
    scaled_information: Tensor, sigma: Tensor, source_counts: list[int], estimated: list[bool]
) -> list[NDArray[np.float64] | None]:
    """The covariance (D, D) of each problem's T, or None if the information is not positive definite.

    The problems with `estimated` have a σ estimated from the residuals. The matrices are inverted one by one, because
    the rounding of a joint factorisation depends on their number.
    """
    D = scaled_information.shape[-1]
    out: list[NDArray[np.float64] | None] = []
    items = zip(scaled_information.numpy(), sigma.tolist(), source_counts, estimated, strict=True)
    for matrix, value, count, from_residuals in items:
        found = inverse(matrix)
        growth = small_sample_inflation(count * D, D) if from_residuals else 1.0
        out.append(None if found is None or growth is None else found * (value**2 * growth))
    return out
