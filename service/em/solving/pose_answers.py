"""From the end of an iteration to an outcome, in the caller's coordinates."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..ambiguity import warning
from ..climbing.confidence import Confidence, to_caller
from ..climbing.correspondence import Correspondence
from ..climbing.record import Record
from ..coordinates import Frame
from ..kernel.fitting import move
from ..model import Parameters
from ..outcome import Outcome, RunnerUp, StopReason, Trace
from ..problem import Pose, Problem
from ..quality.assess import End, assess
from ..weights import effective_count

Float64 = NDArray[np.float64]


class ClimbEnd(NamedTuple):
    """How the iteration of one problem ended."""

    iterations: int
    converged: bool
    start: str
    solid: bool = False  # whether the points fill a volume, as far as their patches tell

    @property
    def reason(self) -> StopReason:
        """The reason for which it stopped."""
        return "tolerance" if self.converged else "max_iterations"


def pose_of(points: Frame, transform: Float64) -> Pose:
    """A transform (D, D + 1) of the frame's coordinates as a pose in the caller's."""
    return points.to_caller(transform)


def outcome(
    problem: Problem,
    points: Frame,
    parameters: Parameters,
    pairs: Correspondence,
    sure: Confidence,
    record: Record,
    end: ClimbEnd,
    runner_up: RunnerUp | None = None,
    warnings: tuple[str, ...] = (),
    *,
    moved: Float64 | None = None,
    most_outliers: float | None = None,
    estimated: Frame | None = None,
) -> Outcome:
    """The outcome of a problem at its final `parameters`.

    Args:
        problem: the problem; its flags select the fields that cost memory.
        points: its frame.
        parameters: the estimates, in the frame's units.
        pairs: the correspondence, in the frame's order of the points.
        sure: the log-likelihood and the covariances, in the caller's coordinates.
        record: the accepted steps, for the trace and the path.
        end: how the iteration ended.
        runner_up: the best other pose.
        warnings: warnings beyond those about the runner-up, the covariance, the normalisation and the quality.
        moved: (P, N) the source after a deformation, in the frame's order; None without one.
        most_outliers: the largest share of outliers that an estimate may take; None for a given share.
        estimated: the frame of the points that the parameters were estimated from; None for all points.
    """
    pose = pose_of(points, parameters.transform)
    if moved is None:
        moved = np.zeros_like(points.source)
        move(parameters.transform, points.source, moved)
    registered = points.moved_to_caller(moved[: points.dimension]) if problem.registered else None
    outliers = parameters.outliers
    assessed = assess(
        problem,
        moved,
        points.target,
        pairs.match,
        End(
            sigma=parameters.sigma,
            unit=points.target_unit,
            converged=end.converged,
            centroid=sure.centroid,
            runner_up=runner_up,
            at_cap=most_outliers is not None and 0 < most_outliers * (1 - 1e-6) <= outliers,
            solid=end.solid,
        ),
    )
    path = [*record.path, parameters.transform] if problem.path else []
    match, probability, unmatched_probability, responsibilities = pairs.in_caller_order(points)
    return Outcome(
        translation=pose.translation,
        sigma=_sigma(problem, points, parameters),
        log_likelihood=sure.log_likelihood,
        matching=match,
        matching_probability=probability,
        translation_covariance=sure.translation,
        iterations=end.iterations,
        converged=end.converged,
        stop_reason=end.reason,
        start=end.start,
        responsibilities=responsibilities,
        registered=registered,
        trace=_trace(problem, estimated or points, record, parameters, sure.log_likelihood) if problem.trace else None,
        linear=pose.linear if problem.kind.fits_linear else None,
        rotation_covariance=sure.rotation,
        outlier_weight=parameters.outliers,
        outlier_probability=unmatched_probability if parameters.outliers > 0 else None,
        runner_up=runner_up,
        warnings=_warnings(problem, runner_up, sure) + warnings + assessed.warnings,
        quality=assessed.quality,
        path=tuple(pose_of(points, transform) for transform in path),
    )


def _sigma(problem: Problem, points: Frame, parameters: Parameters) -> float:
    return parameters.sigma * points.target_unit if problem.sigma is None else problem.sigma


def _trace(problem: Problem, points: Frame, record: Record, last: Parameters, likelihood: float) -> Trace:
    """The accepted steps after their M-step: the parameters of the next step, and for the last step the end.

    With `refine` the record already has the end of the climb, and the refined transform is not a step.
    """
    swapped = problem.resolved_normalize == "columns"
    count = effective_count(problem, (points.target if swapped else points.source).shape[1])
    after = [at for at, _ in record.steps[1:]]
    values = [to_caller(problem, points, at, value, count) for at, value in record.steps[1:]]
    if not problem.refine:
        after.append(last)
        values.append(likelihood)
    poses = [pose_of(points, parameters.transform) for parameters in after]
    return Trace(
        log_likelihood=np.array(values),
        sigma=np.array([_sigma(problem, points, at) for at in after]),
        translation=np.stack([pose.translation for pose in poses]),
        linear=np.stack([pose.linear for pose in poses]) if problem.kind.fits_linear else None,
    )


def _warnings(problem: Problem, runner_up: RunnerUp | None, sure: Confidence) -> tuple[str, ...]:
    out = [*warning(runner_up)]
    if sure.translation is None and sure.asked:
        out.append(
            "no covariance: the likelihood has no clear peak, because the matching is ambiguous or the cloud is much "
            "longer along one axis"
        )
    if problem.kind.scales and problem.resolved_normalize == "rows":
        out.append(
            "with normalize rows, a source that shrinks onto a few targets fits as well as one that matches all: "
            "compare the answer with that of normalize columns"
        )
    return tuple(out)
