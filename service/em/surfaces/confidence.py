"""The covariance of a pose between surfaces, from residuals that are correlated.

Neighbouring points lie on the same patches, and share the errors of sampling and of the normals: they are not
independent. Their equations (`equations.py`) are summed over the cells c of a coarse grid, within which points are
correlated: scores s_c, and slopes H_c with the sum H. Without a cell, Newton's step from the pose would be
-(H - H_c)⁻¹ s_c. The covariance is the sum of the squares of these steps,

    Σ_c (H - H_c)⁻¹ s_c s_cᵀ (H - H_c)⁻ᵀ

the jackknife by clusters (MacKinnon, Nielsen and Webb 2023, Econometrics Journal 26, CV3), widened for their number as
an estimated variance is (`small_sample_inflation`). The cells, not the points, are the independent observations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..climbing.confidence import Confidence, centroid_covariance, to_caller, translation_covariance
from ..coordinates import Frame
from ..kernel.definite import inverse, small_sample_inflation
from ..kernel.voxels import voxels
from ..problem import Problem
from .equations import Equations, Settled
from .mixture import SurfaceMixture, SurfaceStep
from .scene import Scene

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# The sides of a cell, in τ: the first that has as many cells as this, or the last. Large ones hold all that is
# correlated, such as the rings of a lidar on one wall.
SIDES, LEAST_CELLS = (24.0, 16.0, 8.0), 20
# More cells share sums: each takes 300 bytes several times, and scattered points have a cell each.
MOST_CELLS = 4096


def surface_confidence(
    problem: Problem, points: Frame, mixture: SurfaceMixture, pose: Settled
) -> tuple[Confidence, SurfaceStep]:
    """The confidence at the end, where the equations hold, and the E-step there.

    The covariances are None if the equations determine no pose, or if the points lie in too few cells.
    """
    at, scene = pose.at, mixture.scene
    last = mixture.step(at)
    value = to_caller(problem, points, at, last.log_likelihood, scene.source.shape[1])
    covariance = _covariance(pose.equations)
    if covariance is None:
        return Confidence(value, None, None, asked=True), last
    turns = len(covariance) - scene.dimension
    rotation = covariance[:turns, :turns].copy() if turns else None
    moved = translation_covariance(points, problem.kind.code, at, covariance)
    centroid = centroid_covariance(points, problem.kind.code, at, covariance)
    return Confidence(value, moved, rotation, asked=True, centroid=centroid), last


def cells_of(scene: Scene) -> Int64:
    """The cell (N,) of each source point, from 0 to at most MOST_CELLS - 1."""
    for side in SIDES:
        found = voxels(scene.source, side * scene.tangential)
        if len(found.counts) >= LEAST_CELLS:
            break
    return np.asarray(found.of % MOST_CELLS)


def _covariance(found: Equations) -> Float64 | None:
    """The covariance (p, p) of the pose's free numbers."""
    scores, slopes = found
    slope = slopes.sum(0)
    growth = small_sample_inflation(len(scores), len(slope))
    if growth is None or inverse((slope + slope.T) / 2) is None:
        return None
    try:
        steps = np.linalg.solve(slope - slopes, scores[:, :, None])[:, :, 0]
    except np.linalg.LinAlgError:  # one cell determines a number alone
        return None
    return np.asarray(growth * steps.T @ steps)
