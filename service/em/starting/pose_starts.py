"""The start of a pose: named, given, or found by a search. Each kind of start has its own file."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..cancellation import Poll
from ..coordinates import Frame
from ..problem import Problem
from .affine import affine_start
from .exhaustive import least_coincidence
from .global_start import find_start
from .named import given, named, start_name
from .near import near_start
from .pyramid import Pyramid
from .starts import PoseStart
from .translations import translation_start

Float64 = NDArray[np.float64]

# Points farther out, in the frame's unit, take no part in the search. Half of the points are within 2.
STRAY_RADIUS = 16.0


def pose_start(problem: Problem, points: Frame, poll: Poll) -> PoseStart:
    """The start that `problem.init` selects, annealed. `poll` is called repeatedly, and may raise."""
    kind = problem.kind
    points = bulk(points)
    last = last_width(problem, points)
    if not (isinstance(problem.init, str) and problem.init == "auto"):
        transform = named(problem, points) if isinstance(problem.init, str) else given(problem, points)
        return near_start(points, kind.code, transform, start_name(problem), last, poll)
    pyramid = Pyramid(points)
    if not kind.fits_linear:
        return translation_start(problem, points, pyramid, last, poll)
    if kind.shears:
        return affine_start(points, pyramid, last, poll)
    found = find_start(points, pyramid, kind.code, poll)
    if problem.resolved_outliers != 0:
        found = least_coincidence(points, kind.code, found)
    return found._replace(sigma=max(found.sigma, last))


def last_width(problem: Problem, points: Frame) -> float:
    """The least width of the annealing, in the target's unit."""
    return points.floor if problem.sigma is None else max(problem.sigma / points.target_unit, points.floor)


def bulk(points: Frame) -> Frame:
    """The frame without the points that are far out. Its orders stay those of all points."""
    return points._replace(source=_bulk(points.source), target=_bulk(points.target))


def _bulk(cloud: Float64) -> Float64:
    """The points (P, n) within STRAY_RADIUS along every axis."""
    distance = np.abs(cloud)
    if distance.max() <= STRAY_RADIUS:
        return cloud
    return np.ascontiguousarray(cloud[:, distance.max(0) <= STRAY_RADIUS])
