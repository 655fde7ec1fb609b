"""How well the data determine the translation: the inverse of the observed information."""

from __future__ import annotations

import torch
from torch import Tensor

from service.em.distances import Workspace
from service.em.padding import Group
from service.em.posterior import Posterior, column_mass

# The matrix has D² entries for each answer; past this it would outweigh the answer.
MAX_DIMENSION = 256


def translation_information(
    group: Group, moved: Tensor, post: Posterior, precision: Tensor, sigma: Tensor, space: Workspace
) -> Tensor:
    """σ² times the observed information, (B, D, D): Σ_i [I - Cov_{r_i}(q) / σ²].

    The information is minus the Hessian in T of the observed-data log-likelihood Σ_i log Σ_j Π_ij N(q_j; p_i + T, σ²)
    with Π held fixed; r_i are the responsibilities at the very parameters. With c_j = Σ_i r_ij, the covariances sum
    to Σ_j c_j y_j y_jᵀ - Σ_i m_i m_iᵀ: correct to the rounding of the squared spread, (spread/σ)² · 1e-16 relatively.
    `post` is `posterior(moved, ..., precision)`.
    """
    D = group.dimension
    mass = column_mass(moved, group.target, group.cost, precision, post.log_evidence, group.rows, space)
    # Homogeneous coordinates keep these products at two columns or more, which batch invariance needs.
    matched = torch.cat([post.matched, torch.ones_like(group.rows)[:, None]], 1)
    between = torch.bmm(group.target * mass[:, None], group.target.mT)
    within = torch.bmm(matched * group.rows[:, None], matched.mT)
    spread = (between - within)[:, :D, :D] / sigma.square()[:, None, None]
    identity = torch.eye(D, dtype=torch.float64, device=sigma.device)
    information = group.source_count[:, None, None] * identity - spread
    return (information + information.mT) / 2


def covariances(scaled_information: Tensor, sigma: Tensor) -> list[Tensor | None]:
    """The inverse information of each problem (D, D), or None where it is not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(scaled_information)
    good = failed == 0
    identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    inverse = torch.cholesky_inverse(torch.where(good[:, None, None], factor, identity))
    inverse = (inverse * sigma.square()[:, None, None]).cpu()
    return [item if ok else None for item, ok in zip(inverse.unbind(0), good.tolist(), strict=True)]
