"""One iteration of EM for a batch: an E-step followed by its M-step, as a pure function from state to state.

If the prior is free and starts uniform, Π ← R makes log Π the sum of all earlier log-densities, so that
R(t) = softmax_j(-Σ_{s<=t} w_s ‖p_i + T_s - q_j‖²) with w_s = 1 / (2 σ_s²). That sum of squares is a single square about
the weighted mean of the T_s (see `transforms.Average`), so the literal recursion needs no N x M storage. If the prior
stays 1/M, the same expression holds with the last term alone.

Let S_t = Σ_i log Σ_j exp(-Σ_{s<=t} w_s ‖p_i + T_s - q_j‖²). At Π = R(t), T(t+1), σ(t+1) the observed-data
log-likelihood is S_{t+1} - S_t + N · log-normaliser. So each E-step also gives the likelihood of the iteration before
it, at no extra cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..model import LOG_ROOT_TWO_PI
from .padding import Group
from .posterior import Posterior, posterior
from .transforms import Average, fit_sigma, fit_translation, include, single, translate


class Variant(NamedTuple):
    """The variant of the recursion, which all problems of a group share."""

    free: bool  # the prior is Π ← R; else it stays 1/M
    estimated: bool  # σ is estimated; else it is known


class RecursionState(NamedTuple):
    """The state of B problems after an M-step."""

    translation: Tensor  # (B, D) T(t+1), centred
    sigma: Tensor  # (B,) σ(t+1)
    average: Average  # of T(0)..T(t), or T(t) alone; it determines R(t), the responsibilities of the last E-step
    evidence: Tensor  # (B,) S_t
    weight: Tensor  # (B, N) 1 / max_j r_ij(t)

    def select(self, index: Tensor) -> RecursionState:
        """The items at `index` (int64), bits unchanged."""
        return RecursionState(
            self.translation[index],
            self.sigma[index],
            Average(*(field[index] for field in self.average)),
            self.evidence[index],
            self.weight[index],
        )

    @staticmethod
    def concatenate(states: Sequence[RecursionState]) -> RecursionState:
        """The items of all states, one after the other."""
        translations, sigmas, averages, evidences, weights = zip(*states, strict=True)
        return RecursionState(
            torch.cat(translations),
            torch.cat(sigmas),
            Average(*(torch.cat(fields) for fields in zip(*averages, strict=True))),
            torch.cat(evidences),
            torch.cat(weights),
        )


def initial_state(translation: Tensor, sigma: Tensor, rows: Tensor) -> RecursionState:
    """The state before the first E-step, from T (B, D) and σ (B,). `rows` (B, N) gives the shape."""
    none = torch.zeros_like(sigma)
    return RecursionState(translation, sigma, Average(none, translation, none), none, torch.ones_like(rows))


def expect(group: Group, state: RecursionState, variant: Variant) -> tuple[Average, Posterior, Tensor]:
    """The E-step at `state`: the average that distances are about, the sums over responsibilities, and S (B,)."""
    weight = 0.5 / state.sigma.square()
    average = include(state.average, state.translation, weight) if variant.free else single(state.translation, weight)
    moved = translate(group.source, average.mean)
    post = posterior(moved, group.target, group.cost, average.weight)
    evidence = (post.log_evidence * group.rows).sum(-1) - group.source_count * average.drift
    return average, post, evidence


def iterate(group: Group, state: RecursionState, variant: Variant) -> RecursionState:
    """One E-step followed by its M-step."""
    average, post, evidence = expect(group, state, variant)
    translation = fit_translation(group.source, post.matched, group.rows)
    sigma = state.sigma
    if variant.estimated:
        sigma = fit_sigma(post.residual, group.rows, translation - average.mean, group.floor)
    return RecursionState(translation, sigma, average, evidence, post.weight)


def settled(before: RecursionState, after: RecursionState, variant: Variant, tolerance: Tensor) -> Tensor:
    """Whether T, and σ if it is estimated, changed by less than `tolerance` (B,) times σ: bool (B,)."""
    bound = tolerance * after.sigma
    still = (after.translation - before.translation).square().sum(-1).sqrt() < bound
    return still & ((after.sigma - before.sigma).abs() < bound) if variant.estimated else still


def log_likelihood(group: Group, variant: Variant, evidence: Tensor, following: Tensor, sigma: Tensor) -> Tensor:
    """The observed-data log-likelihood (B,) after the M-step of an iteration.

    `evidence` (B,) is S of its E-step, `following` (B,) S of the next one, and `sigma` (B,) is σ(t+1). The normaliser
    of the density is (√(2π)σ)^-1 for a known σ, whatever D is, as in the literal model; for an estimated σ it is
    (√(2π)σ)^-D.
    """
    exponent = group.dimension if variant.estimated else 1
    normaliser = exponent * (LOG_ROOT_TWO_PI + sigma.log())
    prior = evidence if variant.free else group.source_count * group.target_count.log()
    return following - prior - group.source_count * normaliser
