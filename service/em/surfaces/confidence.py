"""The covariance of a pose between surfaces, from residuals that are correlated.

Neighbouring points lie on the same patches, and share the errors of sampling and of the normals: they are not
independent. s_i is the score of a point, H = -∂²ℓ/∂θ² the observed information. The scores are summed over the cells c
of a coarse grid, within which points are correlated. The covariance is the cluster-robust one (Liang and Zeger 1986)

    H⁻¹ (Σ_c s_c s_cᵀ) H⁻¹,   s_c = Σ_{i in c} s_i

The cells, not the points, are the independent observations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..climbing.confidence import Confidence, centroid_covariance, to_caller, translation_covariance
from ..coordinates import Frame
from ..kernel.definite import inverse, small_sample_inflation
from ..kernel.voxels import voxels
from ..model import Parameters
from ..problem import Problem
from .mixture import Block, SurfaceMixture, SurfaceStep
from .motion import free_numbers, normal_equations
from .scene import Scene

Float64 = NDArray[np.float64]

# The side of a cell, in τ.
CELL = 8.0


def surface_confidence(
    problem: Problem, points: Frame, scene: Scene, mixture: SurfaceMixture, at: Parameters
) -> tuple[Confidence, SurfaceStep]:
    """The confidence at the end of a climb, and the E-step there.

    The covariances are None if H is not positive definite, or if the points lie in too few cells.
    """
    free = free_numbers(scene.dimension, rotates=problem.kind.rotates)
    cells = voxels(scene.source, CELL * scene.tangential)
    score, information = np.zeros((6, len(cells.counts))), np.zeros((6, 6))

    def add(block: Block) -> None:
        nonlocal information
        information = information + observed_information(block)
        for total, some in zip(score, scores_of(block), strict=True):
            total += np.bincount(cells.of[block.rows], some, len(total))

    last = mixture.step(at, visit=add)
    value = to_caller(problem, points, at, last.log_likelihood, scene.source.shape[1])
    bread = inverse(np.ascontiguousarray(information[np.ix_(free, free)]))
    growth = small_sample_inflation(len(cells.counts), len(free))
    if bread is None or growth is None:
        return Confidence(value, None, None, asked=True), last
    sums = score[free]
    covariance = growth * bread @ (sums @ sums.T) @ bread
    turns = len(free) - scene.dimension
    rotation = covariance[:turns, :turns].copy() if turns else None
    moved = translation_covariance(points, problem.kind.code, at, covariance)
    centroid = centroid_covariance(points, problem.kind.code, at, covariance)
    return Confidence(value, moved, rotation, asked=True, centroid=centroid), last


def scores_of(block: Block) -> Float64:
    """∂ℓ_i/∂(ω, v) (6, K), in the order of `motion.normal_equations`."""
    f = block.moments.force
    return np.concatenate([np.cross(block.moved, f, axis=0) + block.turning, f])


def observed_information(block: Block) -> Float64:
    """-∂²ℓ/∂(ω, v)² (6, 6) of a block, with the covariances of the pairs held (Louis 1982).

    The information of certain pairs, Σ r C⁻¹, is reduced by the spread of C⁻¹d among the pairs of a point.
    """
    x, found = block.moved, block.moments
    f = found.force
    products = np.stack([f[0] ** 2, f[1] ** 2, f[2] ** 2, f[0] * f[1], f[0] * f[2], f[1] * f[2]])
    matrix, _ = normal_equations(x, found.precision - found.spread + products, f)
    # The second derivative of a rotation: ½ (B_k B_l + B_l B_k) x, B_k x = e_k × x.
    mixed = f @ x.T
    matrix[:3, :3] -= (mixed + mixed.T) / 2 - np.trace(mixed) * np.eye(3)
    return matrix
