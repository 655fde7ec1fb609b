"""The mixture of patches: each source point is drawn from a target's patch, or is an outlier.

    p(x_i) = (1 - w)/M Σ_j N(x_i; q_j, C_ij) + w f_i

with C_ij of `expectation`. The density f_i of outliers is the source's own smooth density at the point, which moves
with it: what a cloud of the same outline, sampled anew, would have there. log p - log f is therefore the evidence that
the clouds agree in more than their outline. Wide kernels, which blur the target to its outline, gain nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernel.cells import Cells, cells
from ..kernel.fitting import move
from ..kinds import MAPS
from ..model import LEAST_OUTLIERS, LOG_ROOT_TWO_PI, Model, Parameters
from ..slices import pause
from .expectation import CUTOFF, Matches, Moments, Noise, empty_matches, empty_moments, expect_patches
from .motion import Sums, add_rows, fit_noise, free_numbers, moved_pose, no_sums
from .scene import Scene

Float64 = NDArray[np.float64]

# The shares of points that do not agree, which the score tries.
SHARES = tuple(np.linspace(0.05, 0.95, 10).tolist())
# Responsibilities below this count as this, so that their logarithm is finite.
TINY = 1e-300


# Source points of a block of the E-step, which keeps the sums of its points, and not those of all points, in memory.
BLOCK = 8192


class Block(NamedTuple):
    """A block of K source points after the E-step."""

    rows: slice
    moved: Float64  # (3, K) under the pose
    normals: Float64  # (3, K) turned with the source; zeros for points without one
    matches: Matches
    moments: Moments


class SurfaceStep(NamedTuple):
    """One E-step, and the parameters that its M-step gives. It owns its arrays until it is handed over as `spare`."""

    at: Parameters
    after: Parameters
    log_likelihood: float  # observed-data, before the M-step, per unit of the frame's length^D
    within: Float64  # (D + 1, D + 1) Σ r p̃ p̃ᵀ
    matches: Matches

    @property
    def matched(self) -> float:
        """The expected number of source points that have a partner."""
        return float(self.matches.mass.sum())


class SurfaceMixture:
    """E- and M-steps of one scene.

    Args:
        scene: the clouds, or a sample of the source.
        model: `kind` (TRANSLATION or RIGID), `estimate_sigma`, `estimate_outliers` and `most_outliers` are used.
        widest: the largest σ: beyond the spacing of the targets a kernel blurs their surface.
    """

    def __init__(self, scene: Scene, model: Model, widest: float) -> None:
        self.model = model
        self.scene = scene
        self.widest = widest
        self.free = free_numbers(scene.dimension, rotates=MAPS[model.kind].rotates)
        """The numbers of the pose that may change, in the order of `motion.Sums`."""
        self._grid: Cells | None = None
        self._grid_side = 0.0
        self._grid_normals = scene.target_normals
        self._moments = empty_moments(0)

    def step(self, at: Parameters, spare: SurfaceStep | None = None) -> SurfaceStep:
        """One E-step at `at`, and its M-step. It overwrites the arrays of `spare`, which is no longer needed."""
        scene, D = self.scene, self.scene.dimension
        count, targets = scene.source.shape[1], scene.target.shape[1]
        matches = empty_matches(count) if spare is None else spare.matches
        sums = no_sums()
        for block in self.blocks(at, matches):
            self.gather(sums, block)
        some = [*range(D), 3]
        within = sums.within[np.ix_(some, some)] if D < 3 else sums.within
        share = max(at.outliers, LEAST_OUTLIERS)
        value = float(matches.evidence.sum()) + count * (math.log((1 - share) / targets) - self._root(at.sigma))
        after = self.renoised(at, sums)
        after = after._replace(transform=moved_pose(at.transform, sums.matrix, sums.vector, self.free))
        return SurfaceStep(at, after, value, within, matches)

    def gather(self, sums: Sums, block: Block) -> None:
        """Add the points of a block to the `sums`."""
        source = np.ascontiguousarray(self.scene.source[:, block.rows])
        parts = block.moved, block.normals, block.matches.mass, block.moments
        add_rows(sums, source, *parts, self.scene.dimension, self.scene.tangential)

    def renoised(self, at: Parameters, sums: Sums) -> Parameters:
        """`at` with σ and the share of outliers after an M-step."""
        sigma, outliers = at.sigma, at.outliers
        if self.model.estimate_sigma:
            sigma = max(min(fit_noise(sums.noise, sigma), self.widest), self.scene.floor)
        if self.model.estimate_outliers:
            unmatched = 1 - float(sums.within[3, 3]) / self.scene.source.shape[1]
            outliers = min(max(unmatched, LEAST_OUTLIERS), self.model.most_outliers)
        return at._replace(sigma=sigma, outliers=outliers)

    def ascend(self, start: Parameters, *, tolerance: float, max_iterations: int, floor: float) -> None:
        """There are no compiled steps: see `climbing.mixture.Mixture.ascend`."""

    def score(self, step: SurfaceStep) -> float:
        """The evidence, in nats for each point, that the source agrees with the target in more than its outline.

        It is the mean of log((1 - w) g/f + w), with the density g of the matches of a step, the chance density f of the
        scene, and the best share w of points that do not agree.
        """
        found, scene, at = step.matches, self.scene, step.at
        matched = np.log(np.maximum(found.mass, TINY)) + found.evidence
        ratio = np.exp(np.minimum(matched - math.log(scene.target.shape[1]) - self._root(at.sigma) - scene.chance, 700))
        return max(float(np.log((1 - share) * ratio + share).mean()) for share in SHARES)

    def _root(self, sigma: float) -> float:
        """log √((2π)^D |C₀|), C₀ the covariance of the narrowest pair: the weights of the E-step are relative to it."""
        D = self.scene.dimension
        along = math.log(sigma**2 + self.scene.tangential**2)
        return D * LOG_ROOT_TWO_PI + math.log(sigma) + 0.5 * (D - 1) * along

    def blocks(self, at: Parameters, out: Matches | None = None, cutoff: float = CUTOFF) -> Iterator[Block]:
        """The E-step at `at`, into `out`, block by block; the arrays of a block are overwritten by the next."""
        scene, D = self.scene, self.scene.dimension
        grid, noise = self._cells(at.sigma), Noise(at.sigma, scene.tangential)
        share = max(at.outliers, LEAST_OUTLIERS)
        odds = math.log(share / (1 - share)) + math.log(scene.target.shape[1]) + self._root(at.sigma)
        turn = np.hstack([at.transform[:, :D], np.zeros((D, 1))])
        count = scene.source.shape[1]
        out = empty_matches(count) if out is None else out
        for first in range(0, count, BLOCK):
            pause()
            rows = slice(first, first + BLOCK)
            part = out.rows(rows)
            some = len(part.mass)
            if len(self._moments.trace_square) != some:
                self._moments = empty_moments(some)
            moved, normals = np.zeros((3, some)), np.zeros((3, some))
            move(at.transform, np.ascontiguousarray(scene.source[:, rows]), moved)
            move(turn, np.ascontiguousarray(scene.source_normals[:, rows]), normals)
            background = scene.background[rows] + odds
            moments = self._moments
            expect_patches(moved, normals, grid, self._grid_normals, background, D, noise, cutoff, part, moments)
            yield Block(rows, moved, normals, part, moments)

    def _cells(self, sigma: float) -> Cells:
        side = math.sqrt(2 * CUTOFF * (sigma**2 + self.scene.tangential**2)) / 2
        if self._grid is None or not 0.6 < side / self._grid_side < 1.7:
            self._grid, self._grid_side = cells(self.scene.target, side), side
            self._grid_normals = np.ascontiguousarray(self.scene.target_normals[:, self._grid.order])
        return self._grid
