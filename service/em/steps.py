"""The single steps of EM, written out: E-step, M-step and log-likelihoods, with all N x M numbers.

`register` never holds these arrays; here they are the result. A batch of problems of one shape is one computation;
everything is float64, and no item's arithmetic depends on the others.

Notation: source p_i (B, N, D), target q_j (B, M, D), translation T (B, D), prior Π and responsibilities R and
assignment Z (B, N, M), noise scale σ (B,). 0·log 0 = 0. The density is the seed model's,
𝒩_ij = (√(2π)σ)^-1 exp(-‖p_i + T - q_j‖² / 2σ²), whatever D is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .model import LOG_ROOT_TWO_PI


class Parameters(NamedTuple):
    """ψ of B problems."""

    translation: Tensor  # (B, D)
    prior: Tensor  # (B, N, M), or (B, 1, 1) where all its entries are equal
    sigma: Tensor  # (B,)


class Expected(NamedTuple):
    """The result of an E-step."""

    responsibilities: Tensor  # (B, N, M)
    q: Tensor  # (B,) Q(at | ψ)
    log_likelihood: Tensor  # (B,) observed-data, at ψ


class Maximized(NamedTuple):
    """The result of an M-step."""

    prior: Tensor  # (B, N, M)
    translation: Tensor  # (B, D)


class CompleteLikelihood(NamedTuple):
    """The complete-data log-likelihood and its three terms, (B,) each."""

    log_likelihood: Tensor
    log_prior: Tensor  # Σ Z_ij log Π_ij
    log_normaliser: Tensor  # -Σ Z_ij log(√(2π)σ)
    log_distance: Tensor  # -Σ Z_ij ‖p_i + T - q_j‖² / 2σ²


def expectation(source: Tensor, target: Tensor, psi: Parameters, at: Parameters | None = None) -> Expected:
    """r_ij = Π_ij 𝒩_ij / Σ_k Π_ik 𝒩_ik at ψ, and Q(at | ψ) = Σ_ij r_ij (log Π'_ij + log 𝒩'_ij); None is ψ itself."""
    count = source.shape[1]
    logits = psi.prior.log() - _energy(source, target, psi)
    responsibilities = torch.softmax(logits, -1)
    evidence = torch.logsumexp(logits, -1).sum(-1) - count * _log_root(psi.sigma)
    of = psi if at is None else at
    terms = logits if at is None else at.prior.log() - _energy(source, target, at)
    # 0·log 0 = 0: a pair of probability 0 under both sets of parameters adds nothing.
    weighted = torch.where(responsibilities > 0, responsibilities * terms, 0.0)
    return Expected(responsibilities, weighted.sum(-1).sum(-1) - count * _log_root(of.sigma), evidence)


def maximization(source: Tensor, target: Tensor, responsibilities: Tensor) -> Maximized:
    """Π ← R and T ← (1/N) Σ_ij r_ij (q_j - p_i)."""
    # One coordinate at a time, elementwise and then along the row: a matrix product picks its kernel, and with it the
    # rounding, by the shape of the whole batch.
    total = responsibilities.sum(-1)
    drawn = torch.stack([(responsibilities * q[:, None, :]).sum(-1) for q in target.unbind(-1)], -1)
    translation = (drawn - total[..., None] * source).sum(1) / source.shape[1]
    return Maximized(responsibilities, translation)


def complete_log_likelihood(source: Tensor, target: Tensor, psi: Parameters, assignment: Tensor) -> CompleteLikelihood:
    """Σ_ij Z_ij (log Π_ij - log(√(2π)σ) - ‖p_i + T - q_j‖² / 2σ²); minus infinity where Z > 0 meets Π = 0."""
    log_prior = torch.xlogy(assignment, psi.prior).flatten(1).sum(-1)
    log_normaliser = -assignment.flatten(1).sum(-1) * _log_root(psi.sigma)
    log_distance = -(assignment * _energy(source, target, psi)).flatten(1).sum(-1)
    return CompleteLikelihood(log_prior + log_normaliser + log_distance, log_prior, log_normaliser, log_distance)


def _energy(source: Tensor, target: Tensor, psi: Parameters) -> Tensor:
    """‖p_i + T - q_j‖² / 2σ², (B, N, M), by differences: nothing cancels far from the origin."""
    moved = source + psi.translation[:, None]
    squares: Tensor | None = None
    for p, q in zip(moved.unbind(-1), target.unbind(-1), strict=True):
        square = (p[:, :, None] - q[:, None, :]).square_()
        squares = square if squares is None else squares.add_(square)
    if squares is None:
        raise ValueError("points have at least one coordinate")
    return squares / (2 * psi.sigma.square())[:, None, None]


def _log_root(sigma: Tensor) -> Tensor:
    """log(√(2π)σ)."""
    return sigma.log() + LOG_ROOT_TWO_PI
