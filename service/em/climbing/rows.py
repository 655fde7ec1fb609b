"""Rows sum to one: each source point is drawn from the targets, or is an outlier."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..kernel.expectation import expect
from ..kernel.fitting import sums_of_rows
from ..kernel.truncated import empty_e_step
from ..model import NONE, Parameters
from .clouds import Arrays, Clouds, offsets, unsorted
from .correspondence import View
from .information import information, measure, moments
from .normalization import NormalizedEStep, stride

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
        sums = sums_of_rows(clouds.source, clouds.dimension, found)
        return NormalizedEStep(at, arrays, sums, largest, unsorted(mass, grid))

    def view(self, last: NormalizedEStep) -> View:
        """The E-step itself, because the source is the data."""
        clouds, at, found = self._clouds, last.at, last.found
        grid = clouds.target_grid(at.sigma)
        offset = unsorted(offsets(at.weights, grid)[0], grid)
        return View(
            last.moved,
            grid,
            offset,
            0.5 / at.sigma**2,
            -found.evidence,
            found.best,
            found.peak,
            found.mass,
            clouds.bin_weight(at, last.largest),
            clouds.model.cutoff,
            target_cost=offset if len(at.weights) else None,
        )

    def measure(self, at: Parameters) -> tuple[Float64, float]:
        """See `Normalization.measure`. The information of a large source comes from a strided sample."""
        clouds = self._clouds
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
        return matrix, clouds.log_likelihood(at, float(evidence.sum()), count, largest)
