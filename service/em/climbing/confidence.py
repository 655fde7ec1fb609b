"""The uncertainty of the answer, in the caller's coordinates: covariances, and the log-likelihood.

The covariance is the inverse of the joint observed information of the transform and, if it is estimated, σ: the
uncertainty of each widens the other. Weights and the share of outliers count as known.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..coordinates import Frame
from ..jit import compiled
from ..kernel.definite import inverse, small_sample_inflation
from ..model import MAX_PARAMETERS, Parameters, log_root
from ..problem import Problem
from .information import generators
from .mixture import Mixture

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

NOTHING = np.zeros((1, 1))


class Confidence(NamedTuple):
    """The log-likelihood, and the covariances that follow from its curvature."""

    log_likelihood: float  # in nats
    translation: Float64 | None  # (D, D) covariance; None if the likelihood has no peak
    rotation: Float64 | None  # (1, 1) or (3, 3) covariance, rad²; None for other transforms
    asked: bool  # whether a covariance was computed at all
    centroid: Float64 | None = None  # (D, D) covariance of the source's centroid, moved


def confidence(problem: Problem, points: Frame, mixture: Mixture, parameters: Parameters, matched: float) -> Confidence:
    """The log-likelihood and its curvature at `parameters`.

    `matched` is the expected number of data points with a partner at the last step.
    """
    if problem.kind.numbers(points.dimension) > MAX_PARAMETERS:
        information, value = NOTHING, mixture.step(parameters).log_likelihood
    else:
        information, value = mixture.measure(parameters)
    value = to_caller(problem, points, parameters, value, mixture.data_count)
    # At its floor σ is not a peak of the likelihood, and the residuals do not determine it.
    estimated = mixture.model.estimate_sigma and parameters.sigma > points.floor * (1 + 1e-9)
    if not estimated:
        information = information[:-1, :-1]
    return of_information(problem, points, parameters, information, value, matched if estimated else None)


def of_information(
    problem: Problem,
    points: Frame,
    parameters: Parameters,
    information: Float64,
    value: float,
    matched: float | None,
) -> Confidence:
    """The confidence from an `information` (p, p) of the transform, followed by log σ if σ is estimated.

    `value` is the log-likelihood in the caller's unit. `matched` is the expected number of points that σ was estimated
    from; None if σ is known.
    """
    D, kind = points.dimension, problem.kind
    numbers = kind.numbers(D)
    if numbers > MAX_PARAMETERS:
        return Confidence(value, None, None, asked=False)
    covariance = inverse(information)
    growth = 1.0 if matched is None else small_sample_inflation(matched * D, numbers)
    if covariance is None or growth is None:
        return Confidence(value, None, None, asked=True)
    covariance = covariance[:numbers, :numbers] * growth
    rotation = None
    if kind.rotates:
        turns = 1 if D == 2 else 3
        rotation = covariance[:turns, :turns].copy()
    return Confidence(
        value,
        translation_covariance(points, kind.code, parameters, covariance),
        rotation,
        asked=True,
        centroid=centroid_covariance(points, kind.code, parameters, covariance),
    )


def to_caller(problem: Problem, points: Frame, parameters: Parameters, value: float, count: float) -> float:
    """A log-likelihood of `count` points in the caller's unit, from one in the frame's unit, normalised with σ^-D.

    With a known σ and without outliers the normaliser is that of the literal model, (√(2π)σ)^-1 for every D.
    """
    D = points.dimension
    if problem.sigma is not None and parameters.outliers == 0:
        return value + count * (D * log_root(parameters.sigma) - log_root(float(problem.sigma)))
    return value - count * D * float(np.log(points.target_unit))


def translation_covariance(points: Frame, kind: int, parameters: Parameters, covariance: Float64) -> Float64:
    """The covariance (D, D) of the caller's T, which is the place of the caller's origin."""
    return place_covariance(
        points, kind, parameters, points.source_centre[points.axes] / -points.source_unit, covariance
    )


def centroid_covariance(points: Frame, kind: int, parameters: Parameters, covariance: Float64) -> Float64:
    """The covariance (D, D) of the source's centroid, moved, in the caller's unit."""
    return place_covariance(points, kind, parameters, points.source[: points.dimension].mean(1), covariance)


def place_covariance(points: Frame, kind: int, parameters: Parameters, at: Float64, covariance: Float64) -> Float64:
    """The covariance (D, D), in the caller's unit, of the place to which the source's point `at` (D,) is moved.

    That of the caller's origin is T: T = u t + c_q - (u/v) A c_p, with the units u, v and the centres c. A rotation
    about the frame's origin also moves it. A generator B changes A by B A, and t by B t.
    """
    basis = generators(kind, points.dimension)
    return _moved_covariance(parameters.transform, at, basis, points.back, points.target_unit, covariance)


@compiled
def _moved_covariance(
    transform: Float64, at: Float64, basis: Float64, back: Int64, unit: float, covariance: Float64
) -> Float64:
    dimension, extra = len(at), len(basis)
    arm = transform[:, dimension] + np.ascontiguousarray(transform[:, :dimension]) @ at
    jacobian = np.zeros((dimension, extra + dimension))
    for d in range(dimension):
        jacobian[d, extra + back[d]] = unit
        for k in range(extra):
            for e in range(dimension):
                jacobian[d, k] += basis[k, back[d], e] * arm[e] * unit
    out = jacobian @ np.ascontiguousarray(covariance) @ jacobian.T
    return (out + out.T) / 2
