"""Warnings about another answer that fits about as well."""

from __future__ import annotations

import math

import numpy as np

from .outcome import Outcome, Quality, RunnerUp, Verdict
from .problem import Pose

# A runner-up causes a warning unless the likelihoods differ by a factor of at least 20.
CLEAR_GAP = math.log(20)
# Two log-likelihoods are equal, except for rounding, if their difference is at most this share of them.
EQUAL = 1e-6
# Two answers are the same if they are at most this many σ apart.
SAME = 1.0
TIE = "another pose fits about as well; see runner_up"


def warning(runner_up: RunnerUp | None) -> tuple[str, ...]:
    """The warning about a runner-up whose gap is less than CLEAR_GAP; else no warning."""
    if runner_up is None or runner_up.gap >= CLEAR_GAP:
        return ()
    if runner_up.gap < 0:
        return (
            f"another pose is {-runner_up.gap:.3g} nats likelier if outliers are spread evenly, but it matches little "
            "more than the outlines of the clouds: the clouds may not determine the pose; runner_up has the other pose",
        )
    return (
        f"another pose fits about as well, with a log-likelihood lower by {runner_up.gap:.3g} nats: the shape is "
        "symmetric or repetitive, or the clouds do not determine the pose; runner_up has the other pose",
    )


def difference(one: float, other: float) -> float:
    """The first log-likelihood less the other (nats); 0 if they are equal, except for rounding."""
    gap = one - other
    return gap if abs(gap) > EQUAL * (1 + abs(one)) else 0.0


def likelier(one: Outcome, other: Outcome) -> Outcome:
    """The likelier of two translations, with the other as its runner-up.

    `one` alone if they are the same, and first if they are equally likely; if either was cancelled, the cancelled one.
    The start's name is that of `one`.
    """
    for outcome in one, other:
        if outcome.stop_reason == "cancelled":
            return outcome._replace(start=one.start)
    if float(np.linalg.norm(one.translation - other.translation)) <= SAME * max(one.sigma, other.sigma):
        return one
    gap = difference(one.log_likelihood, other.log_likelihood)
    best, second = (one, other) if gap >= 0 else (other, one)
    runner_up = RunnerUp(Pose(np.eye(len(best.translation)), second.translation), abs(gap))
    return best._replace(
        start=one.start,
        runner_up=runner_up,
        warnings=best.warnings + warning(runner_up),
        quality=doubted(best.quality, runner_up),
    )


def doubted(quality: Quality | None, runner_up: RunnerUp) -> Quality | None:
    """The quality of an answer with a runner-up that was found later: at best doubtful if it fits about as well."""
    if quality is None or runner_up.gap >= CLEAR_GAP:
        return quality
    verdict: Verdict = "doubtful" if quality.verdict == "good" else quality.verdict
    return quality._replace(verdict=verdict, reasons=(*quality.reasons, TIE))
