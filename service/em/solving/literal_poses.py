"""One problem under the literal model, prior Π ← R, for any transform and size: start, recursion, answer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..climbing.confidence import NOTHING, of_information, to_caller
from ..climbing.correspondence import View, correspondence, refined
from ..climbing.information import information, measure, moments
from ..climbing.record import Record
from ..coordinates import Frame
from ..kernel.cells import cells
from ..kernel.fitting import move
from ..kinds import MAPS
from ..model import EXACT, MAX_PARAMETERS, NONE, Parameters
from ..outcome import Outcome
from ..problem import Problem
from ..starting.named import given, named
from ..starting.pose_starts import pose_start
from .literal import LiteralEnd, recur
from .pose_answers import ClimbEnd, outcome

Float64 = NDArray[np.float64]


def register_literal(problem: Problem, points: Frame, record: Record) -> Outcome:
    """Register one problem as `poses.register_pose` does. If σ and the start are given, only the recursion runs.

    Raises Cancelled if the problem is cancelled.
    """
    kind = problem.kind.code
    if problem.init_name == "auto":
        found = pose_start(problem, points, record.poll)
        record.record_path(found.path)
        transform, sigma, name = found.transform, found.sigma, found.name
    else:
        transform = named(problem, points) if isinstance(problem.init, str) else given(problem, points)
        sigma, name = _all_pairs(points, transform), problem.init_name
    estimated = problem.sigma is None
    start = Parameters(transform, sigma if problem.sigma is None else problem.sigma / points.target_unit)
    end = recur(
        points,
        kind,
        start,
        estimate_sigma=estimated,
        tolerance=problem.tolerance,
        max_iterations=problem.max_iterations,
        floor=points.floor,
        accept=record.keep,
    )
    grid = cells(points.target, (EXACT / end.weight) ** 0.5)
    view = View(
        end.moved,
        grid,
        NONE,
        end.weight,
        -end.found.evidence,
        end.found.best,
        end.found.peak,
        end.found.mass,
        0.0,
        EXACT,
    )
    pairs = correspondence(problem, view, record.poll)
    parameters = end.parameters
    if problem.refine:
        if problem.trace:
            record.keep(parameters, end.log_likelihood)
        # The likelihood and the covariance stay those of the recursion, because Π belongs to its transform.
        parameters = parameters._replace(transform=refined(points, kind, parameters.transform, pairs.match))
    n = points.source.shape[1]
    value = to_caller(problem, points, parameters, end.log_likelihood, n)
    matched = float(n) if estimated and parameters.sigma > points.floor * (1 + 1e-9) else None
    sure = of_information(problem, points, parameters, _information(points, kind, end), value, matched)
    return outcome(problem, points, parameters, pairs, sure, record, ClimbEnd(end.iterations, end.converged, name))


def _information(points: Frame, kind: int, end: LiteralEnd) -> Float64:
    """The observed information of the transform with Π held fixed, from the responsibilities of the next E-step."""
    D, sigma = points.dimension, end.parameters.sigma
    if MAPS[kind].numbers(D) > MAX_PARAMETERS:
        return NOTHING
    grid = cells(points.target, (EXACT / end.after_weight) ** 0.5)
    found = moments(D, points.source.shape[1])
    measure(end.after, grid, NONE, end.after_weight, 0.0, EXACT, found)
    moved = np.zeros_like(points.source)
    move(end.parameters.transform, points.source, moved)
    # The responsibilities belong to the mean map, the distances to the last one.
    shift = end.after[:D] - moved[:D]
    second = found.second + found.mean[:, None] * shift + shift[:, None] * found.mean + shift[:, None] * shift
    return information(kind, moved, found._replace(mean=found.mean + shift, second=second), sigma)[:-1, :-1]


def _all_pairs(points: Frame, transform: Float64) -> float:
    """The first σ, from the distances of all pairs: σ² = mean_ij ‖x_i - q_j‖² / D, at least the floor."""
    D = points.dimension
    x = transform[:, :D] @ points.source[:D] + transform[:, D:]
    apart = float(((x.mean(1) - points.target[:D].mean(1)) ** 2).sum())
    scattered = float(x.var(1).sum()) + float(points.target[:D].var(1).sum())
    return max(float(((scattered + apart) / D) ** 0.5), points.floor)
