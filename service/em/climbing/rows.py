"""Rows sum to one: each source point is drawn from the targets, or is an outlier."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..kernel.expectation import expect
from ..kernel.truncated import EStep, empty_e_step
from ..model import NONE, Parameters
from .clouds import Arrays, Clouds, offsets, unsorted
from .correspondence import View
from .information import information, measure, moments
from .known import sums_of_known_rows, weighted_moments
from .known_pairs import KnownPairs
from .normalization import NormalizedEStep, groups, stride
from .paired import Paired, pair_up, pair_up_moments

Float64 = NDArray[np.float64]


class Rows:
    """See `normalization.Normalization`."""

    def __init__(self, clouds: Clouds) -> None:
        self._clouds = clouds

    def expect(self, at: Parameters, spare: Arrays | None = None) -> NormalizedEStep:
        """One pass over the source, each point against the targets in reach."""
        clouds = self._clouds
        moved, found = arrays = clouds.arrays(at.transform, spare)
        grid = clouds.target_grid(at.sigma)
        offset, largest = offsets(at.weights, grid)
        bin_weight = clouds.bin_weight(at, largest)
        mass = np.zeros(clouds.target_count if clouds.model.mixing else 0)
        precision = 0.5 / at.sigma**2
        expect(moved, grid, offset, grid.points, precision, bin_weight, clouds.model.cutoff, found, mass)
        paired = None
        if len(clouds.known.paired):
            paired = self._pair_up(at, found, moved, bin_weight)
        sums = sums_of_known_rows(clouds.source, clouds.dimension, found, clouds.known)
        return NormalizedEStep(
            at, arrays, sums, largest, unsorted(mass, grid), importance=clouds.known.importance, paired=paired
        )

    def _pair_up(self, at: Parameters, found: EStep, moved: Float64, bin_weight: float) -> Paired:
        clouds, known = self._clouds, self._clouds.known
        y = clouds.target[:, known.partner]
        return pair_up(found, known, at, moved[:, known.paired], y, y, bin_weight, clouds.target_count)

    def view(self, last: NormalizedEStep) -> View:
        """The E-step itself, because the source is the data."""
        clouds, at, found = self._clouds, last.at, last.found
        grid = clouds.target_grid(at.sigma)
        offset = unsorted(offsets(at.weights, grid)[0], grid)
        log_factor, pairs = -found.evidence, None
        if last.paired is not None:
            i, j, strength = clouds.known[1:]
            log_factor[i] = np.where(np.isinf(strength), -np.inf, log_factor[i] - last.paired.log_norm)
            pairs = KnownPairs(i, j, strength, last.paired.own, last.paired.log_norm, by_source=True)
        return View(
            last.moved,
            grid,
            offset,
            0.5 / at.sigma**2,
            log_factor,
            found.best,
            found.peak,
            found.mass,
            clouds.bin_weight(at, last.largest),
            clouds.model.cutoff,
            target_cost=offset if len(at.weights) else None,
            pairs=pairs,
        )

    def measure(self, at: Parameters) -> tuple[Float64, float]:
        """See `Normalization.measure`. The information of a large source comes from a strided sample."""
        clouds = self._clouds
        if not clouds.known.nothing:
            return self._measure_known(at)
        count, precision, cutoff = clouds.source_count, 0.5 / at.sigma**2, clouds.model.cutoff
        moved, grid = clouds.moved(at.transform), clouds.target_grid(at.sigma)
        offset, largest = offsets(at.weights, grid)
        bin_weight = clouds.bin_weight(at, largest)
        sample = np.ascontiguousarray(moved[:, :: stride(count)])
        found = moments(clouds.dimension, sample.shape[1])
        measure(sample, grid, offset, precision, bin_weight, cutoff, found)
        matrix = information(clouds.model.kind, sample, found, at.sigma) * (count / sample.shape[1])
        evidence = found.evidence
        if len(evidence) < count:
            whole = empty_e_step(len(moved), count)
            expect(moved, grid, offset, grid.points, precision, bin_weight, cutoff, whole, NONE)
            evidence = whole.evidence
        return matrix, clouds.log_likelihood(at, float(evidence.sum()), largest)

    def _measure_known(self, at: Parameters) -> tuple[Float64, float]:
        """`measure` with weights or pairs; the data points of the pairs have a sample of their own."""
        clouds, known, precision = self._clouds, self._clouds.known, 0.5 / at.sigma**2
        whole = self.expect(at)
        grid = clouds.target_grid(at.sigma)
        offset, largest = offsets(at.weights, grid)
        bin_weight = clouds.bin_weight(at, largest)
        matrix = np.zeros((1, 1))
        for group in groups(clouds.source_count, known.paired):
            every = stride(len(group))
            sample = np.ascontiguousarray(whole.moved[:, group[::every]])
            found = moments(clouds.dimension, sample.shape[1])
            measure(sample, grid, offset, precision, bin_weight, clouds.model.cutoff, found)
            if whole.paired is not None and group is known.paired:
                partners = clouds.target[:, known.partner[::every]]
                found = pair_up_moments(found, whole.paired.every(every), sample, partners, at.sigma)
            growth = len(group) / sample.shape[1]
            if len(known.importance):
                alpha = known.importance[group]
                found, growth = weighted_moments(found, alpha[::every]), float(alpha.sum() / alpha[::every].sum())
            matrix = matrix + information(clouds.model.kind, sample, found, at.sigma) * growth
        return matrix, clouds.log_likelihood(at, float(whole.sums.evidence), largest)
