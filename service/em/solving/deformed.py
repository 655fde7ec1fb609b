"""One problem with a nonrigid transform: the global pose, the deformation, the answer."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ..climbing.confidence import Confidence, to_caller
from ..climbing.correspondence import View, correspondence
from ..climbing.record import Record
from ..coordinates import Frame
from ..kernel.cells import cells
from ..model import Parameters, bin_weight, cutoff_for, outlier_volume
from ..motion.nonrigid import Deformation, deform
from ..outcome import Outcome, Trace
from ..problem import Problem
from .pose_answers import End, outcome

Float64 = NDArray[np.float64]


def register_nonrigid(problem: Problem, points: Frame, transform: Float64, start: str, record: Record) -> Outcome:
    """As `poses.register_pose`, from the global `transform` (D, D + 1) that `start` names; it stays as it is."""
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
    pairs = correspondence(problem, _view(points, found))
    value = to_caller(problem, points, found.parameters, found.log_likelihood, points.target.shape[1])
    answer = outcome(
        problem._replace(registered=False, trace=False),
        points,
        found.parameters,
        pairs,
        Confidence(value, None, None, asked=False),
        record,
        End(found.iterations, found.converged, start),
    )
    D = points.dimension
    global_part = transform[:, :D] @ points.source[:D] + transform[:, D:]
    displacement = points.in_caller_order(
        np.ascontiguousarray(((found.moved[:D] - global_part) * points.target_unit)[points.back].T)
    )
    trace = None
    if problem.trace:
        # The global part is what it was all along.
        trace = _trace(problem, points, found, answer)
    registered = torch.from_numpy(points.moved_to_caller(found.moved[:D])) if problem.registered else None
    return answer._replace(displacement=torch.from_numpy(displacement), registered=registered, trace=trace)


def _trace(problem: Problem, points: Frame, found: Deformation, answer: Outcome) -> Trace:
    """The penalised log-likelihoods, which never decrease, and σ."""
    count = len(found.history)
    m = points.target.shape[1]
    values = [
        to_caller(problem, points, found.parameters._replace(sigma=sigma), value, m) for value, sigma in found.history
    ]
    linear = torch.eye(points.dimension, dtype=torch.float64) if answer.linear is None else answer.linear
    return Trace(
        log_likelihood=torch.tensor(values, dtype=torch.float64),
        sigma=torch.tensor([sigma * points.target_unit for _, sigma in found.history], dtype=torch.float64),
        translation=answer.translation.expand(count, -1).clone(),
        linear=linear.expand(count, -1, -1).clone(),
    )


def _view(points: Frame, found: Deformation) -> View:
    """The last E-step, in which each target chose among the sources, seen from the source."""
    n, m = points.source.shape[1], points.target.shape[1]
    sigma, cutoff = found.parameters.sigma, cutoff_for(n, m)
    grid = cells(points.target, sigma * (2 * cutoff) ** 0.5)
    evidence = found.e_step.of_targets.evidence
    shift = float(evidence.min())
    log_volume = math.log(outlier_volume(points.target, points.dimension))
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
