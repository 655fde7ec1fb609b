"""Known pairs in an E-step: what they change of the results for their data points.

Data point i has the known component j. For an exact pair r_ij = 1, and ℓ_i = log((1 - w) π_j N_ij) as for a known Z_ij.
With a strength s the priors of its components are in proportion to π_k, but for π_j e^s. With z_i = Σ_k κ_k K_ik + β of
the E-step without the pair, κ = π/max π and ν = 1 + π_j (e^s - 1), that is

    z' = (z - β + κ_j (e^s - 1) K_ij)/ν + β,   r'_ik = ρ r_ik + γ [k = j]
    ρ = z/(ν z'),   γ = κ_j (e^s - 1) K_ij/(ν z')

All moments of the responsibilities are linear in them, so that they change as r does.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernel.truncated import EStep
from ..model import Known, Parameters
from .information import Moments

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class Paired(NamedTuple):
    """What the pairs of an E-step change, in their order."""

    rate: Float64  # (K,) ρ; 0 for an exact pair
    gain: Float64  # (K,) γ; 1 for an exact pair
    own: Float64  # (K,) r' of the pair
    before: Float64  # (K,) log z
    log_norm: Float64  # (K,) log ν; 0 for an exact pair

    def every(self, step: int) -> Paired:
        """The same of every `step`-th pair."""
        return Paired(*(values[::step] for values in self))


def pair_up(
    found: EStep, known: Known, at: Parameters, x: Float64, y: Float64, payload: Float64, bin_weight: float, count: int
) -> Paired:
    """Change the E-step `found` of all data points to what the pairs say, in place.

    Args:
        found: the E-step without the pairs.
        known: the pairs.
        at: the parameters of the E-step.
        x: (P, K) the data points of the pairs.
        y: (P, K) their components.
        payload: (R, K) the payload of these components.
        bin_weight: β of the E-step.
        count: the number of components.
    """
    i, j, s = known.paired, known.partner, known.strength
    exact = np.isinf(s)
    squares = ((x - y) ** 2).sum(0)
    log_share = np.full(len(i), -math.log(count))
    log_kernel = -0.5 / at.sigma**2 * squares
    if len(at.weights):
        log_share = np.log(at.weights[j])
        log_kernel = log_kernel + log_share - math.log(at.weights.max())
    before, mass = found.evidence[i], found.mass[i]
    rise = np.where(exact, 0.0, s)
    with np.errstate(divide="ignore"):
        log_gain = log_kernel + rise + np.log(-np.expm1(-rise))
        log_norm = np.logaddexp(np.log1p(-np.exp(log_share)), log_share + rise)
        others = np.logaddexp(np.log(mass) + before, log_gain) - log_norm
        after = np.where(exact, log_kernel, np.logaddexp(others, math.log(bin_weight) if bin_weight > 0 else -math.inf))
    rate = np.where(exact, 0.0, np.exp(np.minimum(before - log_norm - after, 0.0)))
    gain = np.where(exact, 1.0, np.exp(np.minimum(log_gain - log_norm - after, 0.0)))
    own = np.where(exact, 1.0, np.minimum(rate * np.exp(np.minimum(log_kernel - before, 0.0)) + gain, 1.0))
    found.mass[i], found.evidence[i] = rate * mass + gain, after
    found.residual[i] = rate * found.residual[i] + gain * squares
    found.weighted_target[:, i] = rate * found.weighted_target[:, i] + gain * payload
    peak, best = rate * found.peak[i], found.best[i]
    wins = (own > peak) | (best == j)
    found.best[i], found.peak[i] = np.where(wins, j, best), np.where(wins, own, peak)
    return Paired(rate, gain, own, before, np.where(exact, 0.0, log_norm))


def pair_up_moments(found: Moments, paired: Paired, x: Float64, y: Float64, sigma: float) -> Moments:
    """The moments of the pairs' data points `x` (D, K) with their components `y` (D, K), from those without the pairs.

    The evidence stays as it was.
    """
    D, (rate, gain) = len(found.mean), paired[:2]
    v = np.ascontiguousarray(y[:D]) - x[:D]  # loops are compiled for arrays of this layout
    u = (v * v).sum(0) / sigma**2 - D
    return Moments(
        rate * found.mass + gain,
        rate * found.mean + gain * v,
        rate * found.second + gain * v[:, None] * v,
        rate * found.once + gain * u,
        rate * found.square + gain * u * u,
        rate * found.skew + gain * v * u,
        found.evidence,
    )
