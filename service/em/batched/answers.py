"""From the last state of the iteration to outcomes: numpy arrays, in the caller's coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..cancellation import unfinished
from ..kernel.cells import AXES
from ..kernel.truncated import UNMATCHED
from ..matching import one_to_one
from ..model import MAX_PARAMETERS
from ..outcome import Outcome, StopReason, Trace
from ..problem import Problem
from ..quality.assess import End as AssessedEnd
from ..quality.assess import assess
from ..slices import blocks
from .covariance import covariances, translation_information
from .distances import Workspace
from .padding import Group
from .posterior import log_weights, nearest
from .recursion import RecursionState, Variant, expect, log_likelihood
from .transforms import translate

Float64 = NDArray[np.float64]


class Stop(NamedTuple):
    """How the iteration of one problem ended."""

    iterations: int
    reason: StopReason
    start: str  # the name of the start


class Instant(NamedTuple):
    """The values of one iteration of one problem, for its trace."""

    evidence: Tensor  # () S_t
    sigma: Tensor  # () σ(t+1)
    translation: Tensor  # (D,) T(t+1), centred


def answers(
    problems: Sequence[Problem],
    ends: Sequence[Stop],
    histories: Sequence[Sequence[Instant]],
    group: Group,
    state: RecursionState,
    variant: Variant,
    space: Workspace,
) -> list[Outcome]:
    """The outcomes of B problems whose iteration has ended.

    There are at most three passes: the evidence of the next E-step for the log-likelihood, its column sums for the
    covariance, and the nearest targets under the distances of the last E-step. A problem that is cancelled meanwhile
    has the outcome `unfinished`.
    """
    average, post, following = expect(group, state, variant)
    likelihood = log_likelihood(group, variant, state.evidence, following, state.sigma)
    found: list[Float64 | None] = [None] * len(problems)
    if group.dimension <= MAX_PARAMETERS:
        moved = translate(group.source, average.mean)
        information = translation_information(group, moved, post, average.weight, state.sigma)
        counts = [len(problem.source) for problem in problems]
        # σ at its floor does not come from the residuals.
        above_floor = (state.sigma > group.floor * (1 + 1e-9)).tolist()
        found = covariances(information, state.sigma, counts, [variant.estimated and above for above in above_floor])
    moved = translate(group.source, state.average.mean)
    index = nearest(moved, group.target, group.cost, space)[0].numpy()
    at_last = translate(group.source, state.translation).numpy()
    targets = group.target[:, :-1].numpy()
    translation = group.to_original(state.translation).numpy()
    probabilities = (1 / state.weight).numpy()
    numbers = zip(state.sigma.tolist(), likelihood.tolist(), strict=True)
    outcomes = []
    for k, (problem, end, (sigma, value)) in enumerate(zip(problems, ends, numbers, strict=True)):
        if problem.cancelled():
            outcomes.append(unfinished(problem, translation[k], sigma, iterations=end.iterations, start=end.start))
            continue
        n, m = len(problem.source), len(problem.target)
        match, probability, responsibilities = index[k, :n], probabilities[k, :n], None
        if problem.responsibilities or problem.matching == "one_to_one":
            logs = log_weights(moved[k, :, :n], group.target[k, :-1, :m], state.average.weight[k])
            responsibilities = np.empty((n, m))
            for some in blocks(n, m):
                responsibilities[some] = torch.softmax(logs[some], -1).numpy()
            if problem.matching == "one_to_one":
                match = one_to_one(logs.numpy())
                chosen = responsibilities[np.arange(n), np.maximum(match, 0)]
                probability = np.where(match == UNMATCHED, 0.0, chosen)
        trace = None
        if problem.trace:
            item = group.select(torch.tensor([k]))
            trace = _trace(histories[k], following[k], item, variant)
        assessed = assess(
            problem,
            _in_rows(at_last[k, :, :n]),
            _in_rows(targets[k, :, :m]),
            match,
            AssessedEnd(sigma=sigma, unit=1.0, converged=end.reason == "tolerance", centroid=found[k]),
        )
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
                warnings=assessed.warnings,
                quality=assessed.quality,
            )
        )
    return outcomes


def _in_rows(points: Float64) -> Float64:
    """A cloud (D, N) with rows of zeros up to three, as loops over points take it."""
    out = np.zeros((max(len(points), AXES), points.shape[1]))
    out[: len(points)] = points
    return out


def _trace(history: Sequence[Instant], following: Tensor, item: Group, variant: Variant) -> Trace:
    evidences, sigmas, translations = (torch.stack(fields) for fields in zip(*history, strict=True))
    later = torch.cat([evidences[1:], following[None]])
    return Trace(
        log_likelihood=log_likelihood(item, variant, evidences, later, sigmas).numpy(),
        sigma=sigmas.numpy(),
        translation=item.to_original(translations).numpy(),
    )
