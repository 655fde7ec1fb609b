"""Columns sum to one: each target point is drawn from the moved source points, or is an outlier."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..kernel.cells import cells
from ..kernel.expectation import expect
from ..kernel.fitting import sums_of_columns
from ..kernel.truncated import empty_e_step
from ..kinds import MAPS
from ..model import NONE, Parameters
from .clouds import Arrays, Clouds, offsets, unsorted
from .correspondence import View
from .information import generators, information_of_columns
from .normalization import NormalizedEStep, stride

Float64 = NDArray[np.float64]


class Columns:
    """See `normalization.Normalization`. The roles of the clouds are swapped, so each step sorts the moved source."""

    def __init__(self, clouds: Clouds) -> None:
        self._clouds = clouds

    def expect(self, at: Parameters, spare: Arrays | None = None) -> NormalizedEStep:
        """One pass over the target, each point against the moved source points in reach."""
        clouds = self._clouds
        moved, found = arrays = clouds.arrays(at.transform, spare)
        grid = cells(moved, clouds.side(at.sigma))
        offset, largest = offsets(at.weights, grid)
        bin_weight = clouds.bin_weight(at, largest)
        mass = np.zeros(clouds.source_count)
        payload = np.ascontiguousarray(clouds.source[:, grid.order])
        precision = 0.5 / at.sigma**2
        expect(clouds.target, grid, offset, payload, precision, bin_weight, clouds.model.cutoff, found, mass)
        mass = unsorted(mass, grid)
        sums = sums_of_columns(clouds.source, clouds.target, clouds.dimension, found, mass)
        return NormalizedEStep(at, arrays, sums, largest, mass)

    def view(self, last: NormalizedEStep) -> View:
        """As seen from the source, a target's normaliser z_j is a further weight of that target."""
        clouds, at, moved, cutoff = self._clouds, last.at, last.moved, self._clouds.model.cutoff
        n, precision = clouds.source_count, 0.5 / at.sigma**2
        grid = clouds.target_grid(at.sigma)
        shift = float(last.found.evidence.min())
        offset = last.found.evidence - shift
        own = np.log(np.maximum(at.weights / last.largest, 1e-300)) if len(at.weights) else np.zeros(n)
        seen = empty_e_step(len(clouds.source), n)
        front = np.ascontiguousarray(offset[grid.order])
        expect(moved, grid, front, grid.points, precision, 0.0, cutoff, seen, NONE)
        mass = np.exp(np.minimum(seen.evidence - shift + own, 0.0))
        return View(
            moved,
            grid,
            offset,
            precision,
            own - shift,
            seen.best,
            seen.peak * mass,
            mass,
            clouds.bin_weight(at, last.largest),
            cutoff,
            source_cost=-own if len(at.weights) else None,
        )

    def measure(self, at: Parameters) -> tuple[Float64, float]:
        """See `Normalization.measure`. The information of a large target comes from a strided sample."""
        clouds, kind, cutoff = self._clouds, self._clouds.model.kind, self._clouds.model.cutoff
        count = clouds.target_count
        grid = cells(clouds.moved(at.transform), clouds.side(at.sigma))
        offset, largest = offsets(at.weights, grid)
        bin_weight = clouds.bin_weight(at, largest)
        basis, curved = generators(kind, clouds.dimension), MAPS[kind].rotates
        sample = np.ascontiguousarray(clouds.target[:, :: stride(count)])
        matrix, evidence = information_of_columns(sample, grid, offset, at.sigma, bin_weight, cutoff, basis, curved)
        if sample.shape[1] < count:
            matrix = matrix * (count / sample.shape[1])
            whole = empty_e_step(len(clouds.target), count)
            expect(clouds.target, grid, offset, grid.points, 0.5 / at.sigma**2, bin_weight, cutoff, whole, NONE)
            evidence = float(whole.evidence.sum())
        return matrix, clouds.log_likelihood(at, evidence, count, largest)
