"""One problem with a nonrigid transform: the global pose, the deformation, the answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..climbing.confidence import Confidence, to_caller
from ..climbing.correspondence import View, correspondence
from ..climbing.record import Record
from ..coordinates import Frame
from ..kernel.cells import cells
from ..model import MOST_OUTLIERS, Parameters, bin_weight, cutoff_for, log_of_volume, outlier_volume
from ..motion.nonrigid import Deformation, deform
from ..outcome import Outcome, Trace
from ..problem import Problem
from .pose_answers import ClimbEnd, outcome

Float64 = NDArray[np.float64]


def register_nonrigid(problem: Problem, points: Frame, transform: Float64, start: str, record: Record) -> Outcome:
    """Register one problem as `poses.register_pose` does, from a global `transform` (D, D + 1), which stays fixed.

    `start` is the name of that transform in the answer. Raises Cancelled if the problem is cancelled.
    """
    weight = problem.resolved_outliers
    found = deform(
        points,
        Parameters(transform, points.floor),
        outlier_weight=None if weight == "auto" else float(weight),
        beta=problem.beta,
        stiffness=problem.stiffness,
        sigma=None if problem.sigma is None else problem.sigma / points.target_unit,
        tolerance=problem.tolerance,
        max_iterations=problem.max_iterations,
        floor=points.floor,
        accept=lambda _likelihood, _sigma: record.poll(),
    )
    pairs = correspondence(problem, _view(points, found), record.poll)
    value = to_caller(problem, points, found.parameters, found.log_likelihood, points.target.shape[1])
    answer = outcome(
        problem._replace(registered=False, trace=False),
        points,
        found.parameters,
        pairs,
        Confidence(value, None, None, asked=False),
        record,
        ClimbEnd(found.iterations, found.converged, start),
        moved=found.moved,
        most_outliers=MOST_OUTLIERS if weight == "auto" else None,
    )
    D = points.dimension
    global_part = transform[:, :D] @ points.source[:D] + transform[:, D:]
    displacement = points.in_caller_order(
        np.ascontiguousarray(((found.moved[:D] - global_part) * points.target_unit)[points.back].T)
    )
    return answer._replace(
        displacement=displacement,
        registered=points.moved_to_caller(found.moved[:D]) if problem.registered else None,
        trace=_trace(problem, points, found, answer) if problem.trace else None,
    )


def _trace(problem: Problem, points: Frame, found: Deformation, answer: Outcome) -> Trace:
    """The penalised log-likelihoods, which never decrease, and σ. The global part is the same in each iteration."""
    count = len(found.history)
    m = points.target.shape[1]
    values = [
        to_caller(problem, points, found.parameters._replace(sigma=sigma), value, m) for value, sigma in found.history
    ]
    linear = np.eye(points.dimension) if answer.linear is None else answer.linear
    return Trace(
        log_likelihood=np.array(values),
        sigma=np.array([sigma * points.target_unit for _, sigma in found.history]),
        translation=np.repeat(answer.translation[None], count, 0),
        linear=np.repeat(linear[None], count, 0),
    )


def _view(points: Frame, found: Deformation) -> View:
    """The last E-step, which is normalised over the sources for each target, as rows of the source."""
    n, m = points.source.shape[1], points.target.shape[1]
    sigma, cutoff = found.parameters.sigma, cutoff_for(n, m)
    grid = cells(points.target, sigma * (2 * cutoff) ** 0.5)
    evidence = found.e_step.of_targets.evidence
    shift = float(evidence.min())
    log_volume = log_of_volume(outlier_volume(points.target, points.dimension))
    return View(
        np.ascontiguousarray(found.moved),
        grid,
        evidence - shift,
        0.5 / sigma**2,
        np.full(n, -shift),
        found.e_step.best,
        found.e_step.peak,
        np.minimum(found.e_step.mass, 1.0),
        bin_weight(found.parameters.outliers, sigma, points.dimension, log_volume, 1 / n),
        cutoff,
    )
