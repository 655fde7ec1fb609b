"""The correspondence of all points, where the transform was estimated from the means of voxels or from surfaces."""

from __future__ import annotations

import math

import numpy as np

from ..cancellation import Poll
from ..climbing.correspondence import Correspondence, correspondence
from ..climbing.mixture import Mixture
from ..coordinates import Frame
from ..kernel.fitting import move
from ..model import Model, Parameters, cutoff_for, outlier_volume
from ..problem import Problem
from ..sampling.match_all import match_all
from ..sampling.thinning import Thinned
from ..surfaces.mixture import SurfaceMixture, SurfaceStep
from ..surfaces.scene import Scene


def side_of(points: Frame, thin: Thinned) -> float | None:
    """The side of the voxels in the caller's unit; None if all points were used."""
    return None if thin.side is None else thin.side * points.target_unit


def isotropic_pairs(
    problem: Problem, points: Frame, thin: Thinned, model: Model, volume: float, at: Parameters, poll: Poll
) -> Correspondence:
    """The correspondence of all points of the frame by the isotropic mixture at `at`.

    The nearest match is a point of the likeliest voxel. A one-to-one matching, and responsibilities, come from an
    E-step between all points.
    """
    if _all_pairs(problem):
        model = model._replace(cutoff=cutoff_for(points.source.shape[1], points.target.shape[1]))
        mixture = Mixture(points, model, volume)
        return correspondence(problem, mixture.view(mixture.step(at)), poll)
    # With columns the source points of a voxel would share its partner, so that each had too little of it.
    whole = model.normalize != "columns"
    mixture = Mixture(points._replace(target=thin.frame.target) if whole else thin.frame, model, volume)
    view = mixture.view(mixture.step(at))
    of = slice(None) if whole else thin.source.of
    moved = np.zeros_like(points.source)
    move(at.transform, points.source, moved)
    return match_all(moved, points.target, thin.target, view.best[of], view.mass[of], view.peak[of])


def surface_pairs(
    problem: Problem,
    points: Frame,
    thin: Thinned,
    scene: Scene,
    mixture: SurfaceMixture,
    last: SurfaceStep,
    poll: Poll,
) -> Correspondence:
    """The correspondence of all points of the frame, after the E-step `last` of `mixture`, which is that of the scene.

    A one-to-one matching, and responsibilities, are isotropic, with the variance σ² + τ² along the surfaces.
    """
    if _all_pairs(problem):
        sigma = math.hypot(last.at.sigma, scene.tangential)
        volume = max(outlier_volume(cloud, scene.dimension) for cloud in (points.source, points.target))
        model = mixture.model._replace(cutoff=cutoff_for(points.source.shape[1], points.target.shape[1]))
        return isotropic_pairs(problem, points, thin, model, volume, last.at._replace(sigma=sigma), poll)
    # Every point has the partner of its voxel: its patch is the same, and so is the part of the target.
    found, of = last.matches, thin.source.of
    moved = np.zeros_like(points.source)
    move(last.at.transform, points.source, moved)
    return match_all(moved, points.target, thin.target, found.best[of], found.mass[of], found.peak[of])


def _all_pairs(problem: Problem) -> bool:
    return problem.matching == "one_to_one" or problem.responsibilities
