"""The single steps of EM, written out: E-step, M-step and log-likelihoods, with all N x M numbers.

`register` never holds these arrays; here they are the result. A batch of problems of one shape is one computation. All
numbers are float64. The arithmetic of an item does not depend on the others: all operations are elementwise, or sums
over the last, contiguous dimension. Large arrays are computed in blocks of rows, with pauses.

Notation: source p_i (B, N, D), target q_j (B, M, D), translation T (B, D), prior Π, responsibilities R and assignment
Z (B, N, M), noise scale σ (B,). 0·log 0 = 0. The density is 𝒩_ij = (√(2π)σ)^-1 exp(-‖p_i + T - q_j‖² / 2σ²), whatever
D is. T and σ may be complex, for derivatives by the complex step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from .model import LOG_ROOT_TWO_PI
from .slices import blocks

Float64 = NDArray[np.float64]


class Psi(NamedTuple):
    """ψ of B problems."""

    translation: Float64  # (B, D)
    prior: Float64  # (B, N, M), or (B, 1, 1) if all its entries are equal
    sigma: Float64  # (B,)


class Expected(NamedTuple):
    """The result of an E-step."""

    responsibilities: Float64  # (B, N, M)
    q: Float64  # (B,) Q(at | ψ)
    log_likelihood: Float64  # (B,) observed-data, at ψ


class Maximized(NamedTuple):
    """The result of an M-step."""

    prior: Float64  # (B, N, M)
    translation: Float64  # (B, D)


class CompleteLikelihood(NamedTuple):
    """The complete-data log-likelihood and its three terms, (B,) each."""

    log_likelihood: Float64
    log_prior: Float64  # Σ Z_ij log Π_ij
    log_normaliser: Float64  # -Σ Z_ij log(√(2π)σ)
    log_distance: Float64  # -Σ Z_ij ‖p_i + T - q_j‖² / 2σ²


def expectation(source: Float64, target: Float64, psi: Psi, at: Psi | None = None) -> Expected:
    """r_ij = Π_ij 𝒩_ij / Σ_k Π_ik 𝒩_ik at ψ, and Q(at | ψ) = Σ_ij r_ij (log Π'_ij + log 𝒩'_ij).

    Args:
        source: (B, N, D)
        target: (B, M, D)
        psi: ψ.
        at: the parameters Π', T', σ' of Q; None stands for ψ.
    """
    (B, count, _), m = source.shape, target.shape[1]
    parts = []
    for some in blocks(count, B * m):
        logits = _logits(source[:, some], target, _rows(psi, some))
        # Subtracting the row's largest exponent keeps the row from underflowing as a whole.
        largest = logits.max(-1)
        weights = logits - largest[..., None]
        np.exp(weights, out=weights)
        total = weights.sum(-1)
        weights /= total[..., None]
        terms = logits if at is None else _logits(source[:, some], target, _rows(at, some))
        # 0·log 0 = 0: a pair of probability 0 under both sets of parameters adds nothing.
        with np.errstate(invalid="ignore"):
            weighted = weights * terms
        np.copyto(weighted, 0.0, where=weights == 0)
        parts.append((weights, weighted.sum(-1), np.log(total) + largest))
    responsibilities, q, evidence = (_joined(rows) for rows in zip(*parts, strict=True))
    sigma = psi.sigma if at is None else at.sigma
    return Expected(
        responsibilities,
        q.sum(-1) - count * _log_root(sigma),
        evidence.sum(-1) - count * _log_root(psi.sigma),
    )


def maximization(source: Float64, target: Float64, responsibilities: Float64) -> Maximized:
    """Π ← R and T ← (1/N) Σ_ij r_ij (q_j - p_i).

    Args:
        source: (B, N, D)
        target: (B, M, D)
        responsibilities: R (B, N, M).
    """
    # One coordinate at a time: a matrix product picks its kernel, and with it the rounding, by the shape of the batch.
    B, count, D = source.shape
    parts = []
    for some in blocks(count, B * target.shape[1]):
        R = responsibilities[:, some]
        total = R.sum(-1)
        parts.append([(R * target[:, None, :, d]).sum(-1) - total * source[:, some, d] for d in range(D)])
    shifts = [_joined(rows).sum(-1) for rows in zip(*parts, strict=True)]
    return Maximized(responsibilities, np.stack(shifts, -1) / count)


def complete_log_likelihood(source: Float64, target: Float64, psi: Psi, assignment: Float64) -> CompleteLikelihood:
    """Σ_ij Z_ij (log Π_ij - log(√(2π)σ) - ‖p_i + T - q_j‖² / 2σ²); minus infinity if Z_ij > 0 and Π_ij = 0.

    Args:
        source: (B, N, D)
        target: (B, M, D)
        psi: ψ.
        assignment: Z (B, N, M).
    """
    (B, count, _), m = source.shape, target.shape[1]
    parts = []
    for some in blocks(count, B * m):
        Z, rows = assignment[:, some], _rows(psi, some)
        prior = np.asarray(xlogy(Z, rows.prior), np.float64).sum(-1)
        parts.append((prior, Z.sum(-1), (Z * _energy(source[:, some], target, rows)).sum(-1)))
    prior, assigned, energy = (_joined(rows).sum(-1) for rows in zip(*parts, strict=True))
    log_prior, log_normaliser, log_distance = prior, -assigned * _log_root(psi.sigma), -energy
    return CompleteLikelihood(log_prior + log_normaliser + log_distance, log_prior, log_normaliser, log_distance)


def _rows(psi: Psi, some: slice) -> Psi:
    """ψ with the prior of some rows only, unless one entry stands for all."""
    return psi if psi.prior.shape[1] == 1 else psi._replace(prior=psi.prior[:, some])


def _joined(parts: Sequence[Float64]) -> Float64:
    """Blocks of rows (B, n, ...) as one array."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts, 1)


def _logits(source: Float64, target: Float64, psi: Psi) -> Float64:
    """log Π_ij - ‖p_i + T - q_j‖² / 2σ², (B, N, M)."""
    with np.errstate(divide="ignore"):
        energy = _energy(source, target, psi)
        return np.subtract(np.log(psi.prior), energy, out=energy)


def _energy(source: Float64, target: Float64, psi: Psi) -> Float64:
    """‖p_i + T - q_j‖² / 2σ², (B, N, M), by differences, which lose no digits far from the origin."""
    moved = source + psi.translation[:, None]
    # Coordinates in contiguous rows, and two arrays of pairs in all, because memory limits the speed.
    rows, columns = (np.ascontiguousarray(points.transpose(2, 0, 1)) for points in (moved, target))
    dtype = np.result_type(moved, psi.sigma)
    squares = np.empty((len(source), source.shape[1], target.shape[1]), dtype)
    difference = np.empty_like(squares)
    for d, (row, column) in enumerate(zip(rows, columns, strict=True)):
        into = squares if d == 0 else difference
        np.subtract(row[:, :, None], column[:, None, :], out=into)
        np.square(into, out=into)
        if d > 0:
            squares += difference
    squares /= (2 * np.square(psi.sigma))[:, None, None]
    return squares


def _log_root(sigma: Float64) -> Float64:
    """log(√(2π)σ)."""
    return np.asarray(np.log(sigma) + LOG_ROOT_TWO_PI)
