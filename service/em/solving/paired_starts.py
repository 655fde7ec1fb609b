"""The start of a problem with known pairs: if the exact ones determine the transform, their fit is a candidate."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..climbing.climb import climb
from ..climbing.mixture import Mixture
from ..climbing.record import Record
from ..coordinates import Frame, span
from ..kernel.fitting import Sums, fit, rms_distance
from ..kernel.spacing import spacing_between
from ..model import Model, Parameters, outlier_volume
from ..problem import Problem
from ..starting.near import near_start
from ..starting.pose_starts import bulk, last_width, pose_start
from ..starting.starts import PoseStart
from ..starting.tuning import NEAR
from .known import pairs_in_frame, sample

Float64 = NDArray[np.float64]

# Data points on which candidates are compared, and the most iterations.
COMPARED, ITERATIONS = 4096, 40
# The name of the start in the answer.
NAME = "pairs"
# The first width from the fit itself, in spacings of the target.
FIRST_SPACINGS = 0.5
# The candidates are compared near their peaks, within this many widths.
TOLERANCE = 1e-2


def paired_start(
    problem: Problem, points: Frame, model: Model, begin: Callable[[PoseStart], Parameters], record: Record
) -> PoseStart:
    """The likeliest start: that of `pose_start`, or with `init` auto one from the fit to the exact pairs.

    The search is left out if most points have a partner near the fit. `begin` gives the first parameters of a climb.
    Raises Cancelled if the problem is cancelled.
    """
    fitted = _fit(problem, points) if problem.init_name == "auto" else None
    if fitted is None:
        return pose_start(problem, points, record.poll)
    transform, residual = fitted
    near = near_start(bulk(points), model.kind, transform, NAME, last_width(problem, points), record.poll)
    width = max(residual, near.sigma, FIRST_SPACINGS * spacing_between(points.target, points.dimension))
    starts = [near, near._replace(transform=transform, sigma=width)]
    if near.inliers < NEAR.enough_inliers:
        starts.append(pose_start(problem, points, record.poll))
    return starts[_likeliest(points, model, [begin(start) for start in starts], record)]


def _fit(problem: Problem, points: Frame) -> tuple[Float64, float] | None:
    """The transform (D, D + 1) of the exact pairs and their residual; None if they do not determine it."""
    pairs, D, kind = pairs_in_frame(problem, points), points.dimension, problem.kind
    if pairs is None:
        return None
    exact = np.isinf(pairs[2])
    i, j = pairs[0][exact], pairs[1][exact]
    p, q = points.source[:D, i], points.target[:D, j]
    needed = kind.rank(D)
    if not len(i) or min(span(p, points.rounding), span(q, points.rounding)) < needed:
        return None
    extended = np.vstack([p, np.ones(len(i))])
    transform = fit(kind.code, np.eye(D, D + 1), Sums(extended @ extended.T, extended @ q.T, 0.0, 0.0))
    square = float(((transform @ extended - q) ** 2).sum()) / (len(i) * D)
    return transform, math.sqrt(square)


def _likeliest(points: Frame, model: Model, starts: list[Parameters], record: Record) -> int:
    """The index of the start whose climb ends at the highest log-likelihood; the first of equal ones."""
    n = (points.target if model.normalize == "columns" else points.source).shape[1]
    some = None if n <= COMPARED else sample(n, COMPARED, model.known)
    mixture = Mixture(points, model, outlier_volume(points.target, points.dimension), some)
    ends = [
        climb(
            mixture,
            start,
            tolerance=TOLERANCE,
            max_iterations=ITERATIONS,
            floor=points.floor,
            accept=lambda _at, _step: record.poll(),
        )
        for start in starts
    ]
    best = 0
    for k, end in enumerate(ends):
        apart = rms_distance(points.source, end.parameters.transform, ends[best].parameters.transform)
        if apart > end.parameters.sigma and end.last.log_likelihood > ends[best].last.log_likelihood:
            best = k
    return best
