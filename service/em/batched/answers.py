"""From the last state of the iteration to what the caller asked for, in the caller's coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..matching import UNMATCHED, one_to_one
from ..outcome import Outcome, StopReason, Trace
from ..problem import Problem
from .covariance import MAX_DIMENSION, covariances, translation_information
from .distances import Workspace
from .padding import Group
from .posterior import log_weights, nearest
from .recursion import Model, State, expect, log_likelihood
from .transforms import translate


class End(NamedTuple):
    """How one problem's iteration went."""

    iterations: int
    reason: StopReason
    start: str


class Instant(NamedTuple):
    """One iteration of one problem, for its trace."""

    evidence: Tensor  # () S_t
    sigma: Tensor  # () σ(t+1)
    translation: Tensor  # (D,) T(t+1), centred


def unfinished(problem: Problem, end: End, translation: Tensor, sigma: float) -> Outcome:
    """The outcome of a problem that was cancelled: where it stood, and nothing that takes a pass to compute."""
    n = len(problem.source)
    return Outcome(
        translation=translation,
        sigma=sigma,
        log_likelihood=math.nan,
        matching=torch.full((n,), UNMATCHED),
        matching_probability=torch.zeros(n, dtype=torch.float64),
        translation_covariance=None,
        iterations=end.iterations,
        converged=False,
        stop_reason=end.reason,
        start=end.start,
        responsibilities=None,
        registered=None,
        trace=None,
    )


def answers(
    problems: Sequence[Problem],
    ends: Sequence[End],
    histories: Sequence[Sequence[Instant]],
    group: Group,
    state: State,
    model: Model,
    space: Workspace,
) -> list[Outcome]:
    """The outcomes of B problems whose iteration has ended.

    Three passes at most: the next E-step's evidence for the log-likelihood, its column sums for the covariance, and
    the nearest targets under the last E-step's distances.
    """
    average, post, following = expect(group, state, model)
    likelihood = log_likelihood(group, model, state.evidence, following, state.sigma)
    found: list[Tensor | None] = [None] * len(problems)
    if group.dimension <= MAX_DIMENSION:
        moved = translate(group.source, average.mean)
        information = translation_information(group, moved, post, average.weight, state.sigma)
        counts = [len(problem.source) for problem in problems]
        # At its floor σ is not what the residuals say.
        told = (state.sigma > group.floor * (1 + 1e-9)).tolist()
        found = covariances(information, state.sigma, counts, [model.estimated and above for above in told])
    moved = translate(group.source, state.average.mean)
    index, _ = nearest(moved, group.target, group.cost, space)
    translation = group.to_original(state.translation)
    probabilities = 1 / state.weight
    numbers = zip(state.sigma.tolist(), likelihood.tolist(), strict=True)
    outcomes = []
    for k, (problem, end, (sigma, value)) in enumerate(zip(problems, ends, numbers, strict=True)):
        n, m = len(problem.source), len(problem.target)
        match, probability, responsibilities = index[k, :n], probabilities[k, :n], None
        if problem.responsibilities or problem.matching == "one_to_one":
            logs = log_weights(moved[k, :, :n], group.target[k, :-1, :m], state.average.weight[k])
            responsibilities = torch.softmax(logs, -1)
            if problem.matching == "one_to_one":
                match = one_to_one(logs)
                chosen = responsibilities.gather(1, match.clamp(min=0)[:, None])[:, 0]
                probability = torch.where(match == UNMATCHED, 0.0, chosen)
        trace = None
        if problem.trace:
            item = group.select(torch.tensor([k]))
            trace = _trace(histories[k], following[k], item, model)
        outcomes.append(
            Outcome(
                translation=translation[k],
                sigma=sigma,
                log_likelihood=value,
                matching=match,
                matching_probability=probability,
                translation_covariance=found[k],
                iterations=end.iterations,
                converged=end.reason == "tolerance",
                stop_reason=end.reason,
                start=end.start,
                responsibilities=responsibilities if problem.responsibilities else None,
                registered=problem.source + translation[k] if problem.registered else None,
                trace=trace,
            )
        )
    return outcomes


def _trace(history: Sequence[Instant], following: Tensor, item: Group, model: Model) -> Trace:
    evidences, sigmas, translations = (torch.stack(fields) for fields in zip(*history, strict=True))
    later = torch.cat([evidences[1:], following[None]])
    return Trace(
        log_likelihood=log_likelihood(item, model, evidences, later, sigmas),
        sigma=sigmas,
        translation=item.to_original(translations),
    )
