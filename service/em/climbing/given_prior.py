"""Rows sum to one, and the caller gives a prior Π_ij for each pair. This computes N x M numbers."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..kernel.fitting import sums_of_rows
from ..model import NONE, Parameters
from ..slices import blocks
from .clouds import Arrays, Clouds
from .correspondence import View
from .information import fill, information, moments
from .normalization import NormalizedEStep

Float64 = NDArray[np.float64]


class GivenPrior:
    """See `normalization.Normalization`."""

    def __init__(self, clouds: Clouds) -> None:
        self._clouds = clouds

    def expect(self, at: Parameters, spare: Arrays | None = None) -> NormalizedEStep:
        """The E-step over all pairs."""
        clouds = self._clouds
        moved, found = arrays = clouds.arrays(at.transform, spare)
        weights = np.empty(clouds.model.log_prior.shape)
        for some in blocks(clouds.source_count, clouds.target_count):
            squares = self._squares(moved, some)
            weights[some], found.evidence[some] = self._posterior(at, squares, some)
            found.mass[some] = weights[some].sum(1)
            found.residual[some] = (weights[some] * squares).sum(1)
            found.best[some] = weights[some].argmax(1)
            found.peak[some] = weights[some].max(1)
        # One product: parts of it would be rounded otherwise.
        found.weighted_target[:] = clouds.target @ weights.T
        return NormalizedEStep(at, arrays, sums_of_rows(clouds.source, clouds.dimension, found), 1.0)

    def view(self, last: NormalizedEStep) -> View:
        """The E-step itself, with R."""
        clouds, at, found = self._clouds, last.at, last.found
        return View(
            last.moved,
            clouds.target_grid(at.sigma),
            NONE,
            0.5 / at.sigma**2,
            -found.evidence,
            found.best,
            found.peak,
            found.mass,
            clouds.bin_weight(at, last.largest),
            clouds.model.cutoff,
            dense=self._responsibilities(at, last.moved)[0],
        )

    def measure(self, at: Parameters) -> tuple[Float64, float]:
        """See `Normalization.measure`; over all pairs."""
        clouds, count = self._clouds, self._clouds.source_count
        moved = clouds.moved(at.transform)
        found = moments(clouds.dimension, count)
        weights, found.evidence[:] = self._responsibilities(at, moved)
        fill(found, moved, clouds.target, weights, at.sigma)
        matrix = information(clouds.model.kind, moved, found, at.sigma)
        return matrix, clouds.log_likelihood(at, float(found.evidence.sum()), 1.0)

    def _responsibilities(self, at: Parameters, moved: Float64) -> tuple[Float64, Float64]:
        """R (N, M) and log z (N,) of the source `moved` (P, N)."""
        n, m = self._clouds.source_count, self._clouds.target_count
        weights, evidence = np.empty((n, m)), np.empty(n)
        for some in blocks(n, m):
            weights[some], evidence[some] = self._posterior(at, self._squares(moved, some), some)
        return weights, evidence

    def _squares(self, moved: Float64, some: slice) -> Float64:
        """‖x_i - q_j‖² (n, M) of the n rows `some`, by differences."""
        clouds, D = self._clouds, self._clouds.dimension
        squares = np.zeros(clouds.model.log_prior[some].shape)
        for x, y in zip(moved[:D, some], clouds.target[:D], strict=True):
            squares += (x[:, None] - y) ** 2
        return squares

    def _posterior(self, at: Parameters, squares: Float64, some: slice) -> tuple[Float64, Float64]:
        """R (n, M) and log z (n,) of the n rows `some`."""
        logits = self._clouds.model.log_prior[some] - 0.5 / at.sigma**2 * squares
        bin_weight = self._clouds.bin_weight(at, 1.0)
        log_bin = math.log(bin_weight) if bin_weight > 0 else -math.inf
        top = np.maximum(logits.max(1), log_bin)
        weights = np.exp(logits - top[:, None])
        total = weights.sum(1) + np.exp(log_bin - top)
        return weights / total[:, None], np.log(total) + top
