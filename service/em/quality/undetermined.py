"""Covariances along the motions that the clouds leave undetermined.

Two samples of a cylinder match best at many angles, by chance, and the likelihood has a narrow peak at each. Its
curvature says nothing about the other peaks. An undetermined angle is therefore taken for uniform over the circle, with
the variance π²/3, and an undetermined step for uniform over the length L of the target, with the variance L²/12. They
are added to the covariances.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..outcome import Outcome
from ..problem import Problem

Float64 = NDArray[np.float64]

# The variance of a uniform angle, in rad².
ANY_ANGLE = math.pi**2 / 3


def widened(problem: Problem, outcome: Outcome) -> Outcome:
    """The outcome, with the variance of its undetermined motions in its covariances and in the centroid's error.

    A turn is about the centroid of the moved source. Covariances that are None stay None.
    """
    quality, covariance = outcome.quality, outcome.translation_covariance
    if quality is None or not quality.degenerate or covariance is None:
        return outcome
    linear = np.eye(len(outcome.translation)) if outcome.linear is None else outcome.linear
    # From the centroid to the place of the caller's origin, which is T.
    arm = -linear @ problem.source.mean(0)
    turned = outcome.rotation_covariance
    steps = 0.0
    for one in quality.degenerate:
        if one.kind == "translation":
            length = float(np.ptp(problem.target @ one.axis))
            covariance = covariance + length**2 / 12 * np.outer(one.axis, one.axis)
            steps += length**2 / 12
            continue
        flat = len(arm) == 2
        moved = np.array([-arm[1], arm[0]]) if flat else np.cross(one.axis, arm)
        covariance = covariance + ANY_ANGLE * np.outer(moved, moved)
        if turned is not None:
            turned = turned + ANY_ANGLE * (np.ones((1, 1)) if flat else np.outer(one.axis, one.axis))
    error = quality.centroid_standard_error
    if error is not None and steps > 0:
        quality = quality._replace(centroid_standard_error=math.sqrt(error**2 + steps))
    return outcome._replace(translation_covariance=covariance, rotation_covariance=turned, quality=quality)
