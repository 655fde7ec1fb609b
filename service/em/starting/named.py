"""Starts without a search: the named ones, and those that the caller gives."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..coordinates import Frame
from ..problem import Pose, Problem
from ..ranges import start_in_frame

Float64 = NDArray[np.float64]


def start_name(problem: Problem) -> str:
    """The name, in the answer, of a start without a search."""
    return problem.init_name


def named(problem: Problem, points: Frame) -> Float64:
    """The transform (D, D + 1) of the start "identity", else that of the start "centroid".

    Raises InvalidInput where `start_in_frame` does.
    """
    D = points.dimension
    if problem.init_name == "identity":
        return start_in_frame(points, Pose(np.eye(D), np.zeros(D)))
    out = np.eye(D, D + 1)
    scale = 1.0
    if problem.kind.scales:
        scale = deviation(points.target[:D]) / deviation(points.source[:D])
    out[:, :D] *= scale
    out[:, D] = points.target[:D].mean(1) - scale * points.source[:D].mean(1)
    return out


def given(problem: Problem, points: Frame) -> Float64:
    """The transform (D, D + 1) that the caller gives.

    Raises TypeError if `init` is a name, and InvalidInput where `start_in_frame` does.
    """
    init = problem.init
    if isinstance(init, Pose):
        return start_in_frame(points, init)
    if isinstance(init, str):
        raise TypeError(f"init {init!r} is not a transform")
    return start_in_frame(points, Pose(np.eye(points.dimension), init))


def deviation(points: Float64) -> float:
    """The standard deviation of `points` (D, N) about their mean, over all coordinates; 1 if it is 0."""
    return math.sqrt(float(points.var(1).mean())) or 1.0
