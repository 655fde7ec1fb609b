"""Warnings about another answer that fits about as well."""

from __future__ import annotations

import math

from .outcome import Outcome, RunnerUp
from .problem import Pose

# A runner-up gives a warning unless the likelihoods differ by a factor of at least 20.
CLEAR_GAP = math.log(20)
# Two answers are the same if they are at most this many σ apart.
SAME = 1.0


def warning(runner_up: RunnerUp | None) -> tuple[str, ...]:
    """The warning about a runner-up, if one is due."""
    if runner_up is None or runner_up.gap >= CLEAR_GAP:
        return ()
    if runner_up.gap < 0:
        return (
            f"another pose is {-runner_up.gap:.3g} nats likelier, if outliers are spread evenly, and explains less "
            "beyond the clouds' outlines: they may say too little; it is given as runner_up",
        )
    return (
        f"another pose fits about as well, {runner_up.gap:.3g} nats behind: the shape is symmetric, or "
        "repeats itself, or the clouds say too little; it is given as runner_up",
    )


def likelier(one: Outcome, other: Outcome) -> Outcome:
    """The likelier of two translations, with the other as its runner-up; `one` alone if they are the same."""
    if math.isnan(one.log_likelihood) or math.isnan(other.log_likelihood):
        return one  # cancelled
    if float((one.translation - other.translation).norm()) <= SAME * max(one.sigma, other.sigma):
        return one
    best, second = (one, other) if one.log_likelihood >= other.log_likelihood else (other, one)
    linear = best.translation.new_ones(len(best.translation)).diag()
    runner_up = RunnerUp(Pose(linear, second.translation), best.log_likelihood - second.log_likelihood)
    return best._replace(start=one.start, runner_up=runner_up, warnings=best.warnings + warning(runner_up))
