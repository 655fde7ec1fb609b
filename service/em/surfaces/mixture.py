"""The mixture of patches: each source point is drawn from a target's patch, or is an outlier.

    p(x_i) = (1 - w)/M Σ_j N(x_i; q_j, C_ij) + w f_i

with C_ij of `expectation`. The density f_i of outliers is the source's own smooth density at the point, which moves
with it: what a cloud of the same outline, sampled anew, would have there. log p - log f is therefore the evidence that
the clouds agree in more than their outline. Wide kernels, which blur the target to its outline, gain nothing.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernel.cells import Cells, cells
from ..kernel.fitting import move
from ..kinds import MAPS
from ..model import LEAST_OUTLIERS, LOG_ROOT_TWO_PI, Model, Parameters
from .expectation import CUTOFF, Noise, PatchStep, empty_step, expect_patches
from .motion import fit_noise, free_numbers, moved_pose, normal_equations
from .scene import Scene

Float64 = NDArray[np.float64]

# The shares of points that do not agree, which the score tries.
SHARES = tuple(np.linspace(0.05, 0.95, 10).tolist())
# Responsibilities below this count as this, so that their logarithm is finite.
TINY = 1e-300


class SurfaceArrays(NamedTuple):
    """The arrays of an E-step."""

    moved: Float64  # (3, N) the source under the pose
    normals: Float64  # (3, N) and its normals
    found: PatchStep


class SurfaceStep(NamedTuple):
    """One E-step, and the parameters that its M-step gives. It owns its arrays until it is handed over as `spare`."""

    at: Parameters
    after: Parameters
    log_likelihood: float  # observed-data, before the M-step, per unit of the frame's length^D
    within: Float64  # (D + 1, D + 1) Σ r p̃ p̃ᵀ
    arrays: SurfaceArrays

    @property
    def matched(self) -> float:
        """The expected number of source points that have a partner."""
        return float(self.arrays.found.mass.sum())


class SurfaceMixture:
    """E- and M-steps of one scene.

    Args:
        scene: the clouds, or a sample of the source.
        model: `kind` (TRANSLATION or RIGID), `estimate_sigma`, `estimate_outliers` and `most_outliers` are used.
        widest: the largest σ: beyond the spacing of the targets a kernel blurs their surface.
    """

    def __init__(self, scene: Scene, model: Model, widest: float) -> None:
        self.model = model
        self._scene, self._widest = scene, widest
        self._free = free_numbers(scene.dimension, rotates=MAPS[model.kind].rotates)
        self._grid: Cells | None = None
        self._grid_side = 0.0
        self._grid_normals = scene.target_normals
        # Σ r p̃ p̃ᵀ needs the points once more.
        self._extended = np.vstack([scene.source[: scene.dimension], np.ones(scene.source.shape[1])])

    def step(self, at: Parameters, spare: SurfaceStep | None = None) -> SurfaceStep:
        """One E-step at `at`, and its M-step. It overwrites the arrays of `spare`, which is no longer needed."""
        scene, D = self._scene, self._scene.dimension
        arrays = self._arrays(at.transform, None if spare is None else spare.arrays)
        found, outliers = arrays.found, max(at.outliers, LEAST_OUTLIERS)
        grid = self._cells(at.sigma)
        noise = Noise(at.sigma, scene.tangential)
        targets = scene.target.shape[1]
        root = self._root(at.sigma)
        odds = math.log(outliers / (1 - outliers)) + math.log(targets) + root
        expect_patches(arrays.moved, arrays.normals, grid, self._grid_normals, scene.background + odds, D, noise, found)
        count = len(found.mass)
        value = float(found.evidence.sum()) + count * (math.log((1 - outliers) / targets) - root)
        within = (self._extended * found.mass) @ self._extended.T
        return SurfaceStep(at, self._maximize(at, arrays), value, within, arrays)

    def ascend(self, start: Parameters, *, tolerance: float, max_iterations: int, floor: float) -> None:
        """There are no compiled steps: see `climbing.mixture.Mixture.ascend`."""

    def score(self, step: SurfaceStep) -> float:
        """The evidence, in nats for each point, that the source agrees with the target in more than its outline.

        It is the mean of log((1 - w) g/f + w), with the density g of the matches of a step, the chance density f of the
        scene, and the best share w of points that do not agree.
        """
        found, scene, at = step.arrays.found, self._scene, step.at
        matched = np.log(np.maximum(found.mass, TINY)) + found.evidence
        ratio = np.exp(np.minimum(matched - math.log(scene.target.shape[1]) - self._root(at.sigma) - scene.chance, 700))
        return max(float(np.log((1 - share) * ratio + share).mean()) for share in SHARES)

    def _root(self, sigma: float) -> float:
        """log √((2π)^D |C₀|), C₀ the covariance of the narrowest pair: the weights of the E-step are relative to it."""
        D = self._scene.dimension
        along = math.log(sigma**2 + self._scene.tangential**2)
        return D * LOG_ROOT_TWO_PI + math.log(sigma) + 0.5 * (D - 1) * along

    def _maximize(self, at: Parameters, arrays: SurfaceArrays) -> Parameters:
        matrix, vector = normal_equations(arrays.moved, arrays.found.precision, arrays.found.force)
        sigma, outliers = at.sigma, at.outliers
        if self.model.estimate_sigma:
            sigma = min(fit_noise(arrays.found, sigma), self._widest)
        if self.model.estimate_outliers:
            share = 1 - float(arrays.found.mass.sum()) / len(arrays.found.mass)
            outliers = min(max(share, LEAST_OUTLIERS), self.model.most_outliers)
        return Parameters(moved_pose(at.transform, matrix, vector, self._free), sigma, outliers)

    def _arrays(self, transform: Float64, spare: SurfaceArrays | None) -> SurfaceArrays:
        scene, D = self._scene, self._scene.dimension
        shape = scene.source.shape
        arrays = spare or SurfaceArrays(np.zeros(shape), np.zeros(shape), empty_step(shape[1]))
        move(transform, scene.source, arrays.moved)
        move(np.hstack([transform[:, :D], np.zeros((D, 1))]), scene.source_normals, arrays.normals)
        return arrays

    def _cells(self, sigma: float) -> Cells:
        side = math.sqrt(2 * CUTOFF * (sigma**2 + self._scene.tangential**2)) / 2
        if self._grid is None or not 0.6 < side / self._grid_side < 1.7:
            self._grid, self._grid_side = cells(self._scene.target, side), side
            self._grid_normals = np.ascontiguousarray(self._scene.target_normals[:, self._grid.order])
        return self._grid
