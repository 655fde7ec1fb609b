"""From where a pose's iteration ended to what the caller asked for, in the caller's coordinates."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..ambiguity import warning
from ..climbing.confidence import Confidence, to_caller
from ..climbing.correspondence import Correspondence
from ..climbing.record import Record
from ..coordinates import Frame
from ..kernel.fitting import move
from ..matching import UNMATCHED
from ..model import Parameters
from ..outcome import Outcome, RunnerUp, StopReason, Trace
from ..problem import Pose, Problem

Float64 = NDArray[np.float64]


class End(NamedTuple):
    """How the iteration of one problem went."""

    iterations: int
    converged: bool
    start: str

    @property
    def reason(self) -> StopReason:
        """Why it stopped."""
        return "tolerance" if self.converged else "max_iterations"


def pose_of(points: Frame, transform: Float64) -> Pose:
    """A transform of the frame's coordinates in the caller's."""
    found = points.to_caller(transform)
    return Pose(torch.from_numpy(found.linear), torch.from_numpy(found.translation))


def outcome(
    problem: Problem,
    points: Frame,
    parameters: Parameters,
    pairs: Correspondence,
    sure: Confidence,
    record: Record,
    end: End,
    runner_up: RunnerUp | None = None,
    warnings: tuple[str, ...] = (),
) -> Outcome:
    """The answer."""
    pose = pose_of(points, parameters.transform)
    registered = None
    if problem.registered:
        moved = np.zeros_like(points.source)
        move(parameters.transform, points.source, moved)
        registered = torch.from_numpy(points.moved_to_caller(moved[: points.dimension]))
    path = [*record.path, parameters.transform] if problem.path else []
    match, probability, unmatched_probability, responsibilities = pairs.in_caller_order(points)
    return Outcome(
        translation=pose.translation,
        sigma=_sigma(problem, points, parameters),
        log_likelihood=sure.log_likelihood,
        matching=torch.from_numpy(match),
        matching_probability=torch.from_numpy(probability),
        translation_covariance=_tensor(sure.translation),
        iterations=end.iterations,
        converged=end.converged,
        stop_reason=end.reason,
        start=end.start,
        responsibilities=_tensor(responsibilities),
        registered=registered,
        trace=_trace(problem, points, record, parameters, sure.log_likelihood) if problem.trace else None,
        linear=None if problem.transform == "translation" else pose.linear,
        rotation_covariance=_tensor(sure.rotation),
        outlier_weight=parameters.outliers,
        outlier_probability=torch.from_numpy(unmatched_probability) if parameters.outliers > 0 else None,
        runner_up=runner_up,
        warnings=_warnings(problem, runner_up, sure) + warnings,
        path=tuple(pose_of(points, transform) for transform in path),
    )


def unfinished(problem: Problem) -> Outcome:
    """The outcome of a cancelled problem, which no caller reads."""
    n, dimension = problem.source.shape
    return Outcome(
        translation=torch.zeros(dimension, dtype=torch.float64),
        sigma=problem.sigma or 0.0,
        log_likelihood=math.nan,
        matching=torch.full((n,), UNMATCHED),
        matching_probability=torch.zeros(n, dtype=torch.float64),
        translation_covariance=None,
        iterations=0,
        converged=False,
        stop_reason="cancelled",
        start="",
        responsibilities=None,
        registered=None,
        trace=None,
    )


def _sigma(problem: Problem, points: Frame, parameters: Parameters) -> float:
    return parameters.sigma * points.target_unit if problem.sigma is None else problem.sigma


def _tensor(values: Float64 | None) -> Tensor | None:
    return None if values is None else torch.from_numpy(values)


def _trace(problem: Problem, points: Frame, record: Record, last: Parameters, likelihood: float) -> Trace:
    """The accepted steps as they stand after their M-step: each where the next one was taken, the last at the end.

    With `refine` the record holds the end of the climb as well, and what it was refined to is no step.
    """
    swapped = problem.resolved_normalize == "columns"
    count = (points.target if swapped else points.source).shape[1]
    after = [at for at, _ in record.steps[1:]]
    values = [to_caller(problem, points, at, value, count) for at, value in record.steps[1:]]
    if not problem.refine:
        after.append(last)
        values.append(likelihood)
    poses = [pose_of(points, parameters.transform) for parameters in after]
    return Trace(
        log_likelihood=torch.tensor(values, dtype=torch.float64),
        sigma=torch.tensor([_sigma(problem, points, at) for at in after], dtype=torch.float64),
        translation=torch.stack([pose.translation for pose in poses]),
        linear=None if problem.transform == "translation" else torch.stack([pose.linear for pose in poses]),
    )


def _warnings(problem: Problem, runner_up: RunnerUp | None, sure: Confidence) -> tuple[str, ...]:
    out = [*warning(runner_up)]
    if sure.translation is None and sure.asked:
        out.append(
            "there is no covariance: the likelihood has no peak here that float64 could tell, since the matching is "
            "ambiguous or the cloud far longer along one axis than along another"
        )
    if problem.transform in {"similarity", "affine"} and problem.resolved_normalize == "rows":
        out.append(
            "with rows that sum to one a source that shrinks onto a few targets fits as well as one that matches all: "
            "compare with normalize columns"
        )
    return tuple(out)
