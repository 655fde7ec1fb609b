"""Nonrigid registration: a global transform, then a smooth displacement of each point by coherent point drift.

The caller supplies the global transform. Each point p then moves by v(p), whose prior is that of `coherence`. `motions`
finds a start and a prior on few points, and `drift` climbs from there on all points. β and λ are in units of the extent
of the moved source, its root mean square distance from the median.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..coordinates import Frame
from ..kernel.fitting import move
from ..model import SIGMA_FLOOR, Parameters, cutoff_for, outlier_volume
from .coherence import features
from .drift import Accept, DriftClouds, DriftEStep, Prior, climb
from .motions import Search, length_unit

Float64 = NDArray[np.float64]


class Deformation(NamedTuple):
    """The new position of every source point, and the motion's parameters."""

    moved: Float64  # (P, N) x_i = A p_i + t + v(p_i), in the target's coordinates of the frame
    parameters: Parameters  # the global transform, unchanged; σ and w
    beta: float  # of the prior
    stiffness: float  # λ
    iterations: int  # of the last climb, on all points
    converged: bool
    log_likelihood: float  # observed-data, of the target's points, at `moved`, σ and w
    penalty: float  # λ/2 tr(uᵀu) = λ/2 tr(WᵀGW)
    e_step: DriftEStep  # the E-step there, from which the matching is made
    history: list[tuple[float, float]]  # of the last climb: log-likelihood less penalty, which never decreases, and σ


def deform(
    points: Frame,
    start: Parameters,
    *,
    outlier_weight: float | None = None,
    beta: float | None = None,
    stiffness: float | None = None,
    sigma: float | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 500,
    floor: float | None = None,
    accept: Accept = lambda _log_likelihood, _sigma: True,
) -> Deformation:
    """Register the source to the target by a smooth motion after the global transform of `start`.

    Args:
        points: the clouds.
        start: its transform (D, D + 1) is the global transform, which does not change.
        outlier_weight: w, the share of the target's points that no source point explains; estimated if None.
        beta: the kernel's width, in extents of the moved source: points within it move together. Chosen if
            None; for more than `MOTION.most_points` points only between 1 and 1.5, with a λ of 10/β².
        stiffness: λ > 0, for an extent of 1: displacements have a standard deviation of 1/√λ extents in each
            coordinate before the data are seen. Chosen if None.
        sigma: σ in the target's unit, if known; otherwise it is estimated, at least `floor`.
        tolerance: the last climb ends when a step moves the points and σ by less than this times σ.
        max_iterations: the most M-steps of the last climb; the search before it has its own limit.
        floor: the least σ. None: a millionth of the source's extent, or the coordinates' rounding error.
        accept: receives the log-likelihood and σ of every E-step, and ends the registration by returning False.

    `checks` bounds the given values.
    """
    placed = np.zeros_like(points.source)
    move(start.transform, points.source, placed)
    size = outlier_volume(points.target, points.dimension)
    cutoff = cutoff_for(placed.shape[1], points.target.shape[1])
    scene = DriftClouds(placed, points.target, points.dimension, size, 0.0, cutoff)
    if floor is None:
        # The frame's floor is not used as the default, because a few distant points raise it.
        floor = max(SIGMA_FLOOR * length_unit(scene), points.rounding, 1e-300)
    least = max(floor, sigma or 0.0)
    scene = scene._replace(floor=least)
    search = Search(scene, outlier_weight, beta, stiffness, accept)
    best = search.best()
    last, state = best.drift, best.drift.state
    prior = Prior(features(placed, best.beta * search.extent), best.stiffness / search.extent**2)
    if last.stopped:
        last = climb(scene, prior, state, tolerance=tolerance, max_iterations=1, accept=lambda _l, _s: False)
    else:
        # A known σ is a floor that EM may not reach. In that case σ is set to it, and EM continues.
        last = climb(
            scene,
            prior,
            state,
            tolerance=tolerance,
            max_iterations=max_iterations,
            estimate_outliers=search.estimates_outliers(state),
            accept=accept,
        )
        left = max_iterations - last.iterations
        if sigma is not None and last.state.sigma > least and left > 0 and not last.stopped:
            last = climb(
                scene,
                prior,
                last.state._replace(sigma=least),
                tolerance=tolerance,
                max_iterations=left,
                estimate_sigma=False,
                estimate_outliers=search.estimates_outliers(state),
                accept=accept,
            )
    return Deformation(
        last.state.moved,
        Parameters(start.transform, last.state.sigma, last.state.outliers),
        best.beta,
        best.stiffness,
        last.iterations,
        last.converged,
        last.log_likelihood,
        last.penalty,
        last.e_step,
        last.history,
    )
