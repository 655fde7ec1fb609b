"""Columns sum to one: each target point is drawn from the moved source points, or is an outlier."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..kernel.cells import cells
from ..kernel.expectation import expect
from ..kernel.fitting import sums_of_columns
from ..kernel.truncated import EStep, empty_e_step
from ..kinds import MAPS
from ..model import NONE, Parameters
from .clouds import Arrays, Clouds, offsets, unsorted
from .correspondence import View
from .information import Terms, generators, information_of_columns
from .known import sums_of_known_columns, with_products
from .known_pairs import KnownPairs
from .normalization import NormalizedEStep, groups, stride
from .paired import Paired, pair_up

Float64 = NDArray[np.float64]

# log z of a target whose partner is known rises by this for all other points: their shares are below its rounding.
OUT_OF_REACH = 60.0


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
        payload = np.ascontiguousarray(clouds.source[:, grid.order])
        precision = 0.5 / at.sigma**2
        if not clouds.known.nothing:
            payload = with_products(payload, clouds.dimension) if clouds.products else payload
            expect(clouds.target, grid, offset, payload, precision, bin_weight, clouds.model.cutoff, found, NONE)
            paired = self._pair_up(at, found, moved, bin_weight) if len(clouds.known.paired) else None
            sums = sums_of_known_columns(clouds.target, clouds.dimension, found, clouds.known)
            return NormalizedEStep(at, arrays, sums, largest, importance=clouds.known.importance, paired=paired)
        mass = np.zeros(clouds.source_count)
        expect(clouds.target, grid, offset, payload, precision, bin_weight, clouds.model.cutoff, found, mass)
        mass = unsorted(mass, grid)
        sums = sums_of_columns(clouds.source, clouds.target, clouds.dimension, found, mass)
        return NormalizedEStep(at, arrays, sums, largest, mass)

    def _pair_up(self, at: Parameters, found: EStep, moved: Float64, bin_weight: float) -> Paired:
        clouds, known = self._clouds, self._clouds.known
        payload = clouds.source[:, known.partner]
        if clouds.products:
            payload = with_products(payload, clouds.dimension)
        x, y = clouds.target[:, known.paired], moved[:, known.partner]
        return pair_up(found, known, at, x, y, payload, bin_weight, clouds.source_count)

    def view(self, last: NormalizedEStep) -> View:
        """As seen from the source, a target's normaliser z_j is a further weight of that target."""
        clouds, at, moved, cutoff = self._clouds, last.at, last.moved, self._clouds.model.cutoff
        n, precision = clouds.source_count, 0.5 / at.sigma**2
        grid = clouds.target_grid(at.sigma)
        evidence, pairs = last.found.evidence, None
        if last.paired is not None:
            j, i, strength = clouds.known[1:]
            exact = np.isinf(strength)
            evidence = evidence.copy()
            # A target with an exact pair is out of reach for all others.
            evidence[j] = np.where(exact, last.paired.before + OUT_OF_REACH, evidence[j] + last.paired.log_norm)
            pairs = KnownPairs(i, j, strength, last.paired.own, last.paired.log_norm, by_source=False)
        shift = float(evidence.min())
        offset = evidence - shift
        own = np.log(np.maximum(at.weights / last.largest, 1e-300)) if len(at.weights) else np.zeros(n)
        seen = empty_e_step(len(clouds.source), n)
        front = np.ascontiguousarray(offset[grid.order])
        expect(moved, grid, front, grid.points, precision, 0.0, cutoff, seen, NONE)
        mass = np.exp(np.minimum(seen.evidence - shift + own, 0.0))
        best, peak = seen.best, seen.peak * mass
        if pairs is not None and last.paired is not None:
            i = pairs.source
            total = np.exp(seen.evidence[i] - shift + own[i])
            largest, total = seen.peak[i] * total, total + last.paired.gain
            wins = pairs.exact | (pairs.own > largest)
            best[i], mass[i] = np.where(wins, pairs.target, best[i]), np.minimum(total, 1.0)
            share = np.where(wins, pairs.own, largest) / np.maximum(total, 1.0)
            peak[i] = np.where(pairs.exact, 1.0, share)
        return View(
            moved,
            grid,
            offset,
            precision,
            own - shift,
            best,
            peak,
            mass,
            clouds.bin_weight(at, last.largest),
            cutoff,
            source_cost=-own if len(at.weights) else None,
            pairs=pairs,
        )

    def measure(self, at: Parameters) -> tuple[Float64, float]:
        """See `Normalization.measure`. The information of a large target comes from a strided sample."""
        clouds, kind, cutoff = self._clouds, self._clouds.model.kind, self._clouds.model.cutoff
        if not clouds.known.nothing:
            return self._measure_known(at)
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
        return matrix, clouds.log_likelihood(at, evidence, largest)

    def _measure_known(self, at: Parameters) -> tuple[Float64, float]:
        """`measure` with weights or pairs; the data points of the pairs have a sample of their own."""
        clouds, known, kind = self._clouds, self._clouds.known, self._clouds.model.kind
        whole = self.expect(at)
        grid = cells(whole.moved, clouds.side(at.sigma))
        offset, largest = offsets(at.weights, grid)
        bin_weight = clouds.bin_weight(at, largest)
        basis, curved = generators(kind, clouds.dimension), MAPS[kind].rotates
        place = np.empty(clouds.source_count, np.int64)
        place[grid.order] = np.arange(len(place))
        matrix = np.zeros((1, 1))
        for group in groups(clouds.target_count, known.paired):
            every, terms = stride(len(group)), Terms()
            growth = len(group) / len(group[::every])
            if len(known.importance):
                alpha = known.importance[group]
                growth, terms = float(alpha.sum() / alpha[::every].sum()), Terms(np.ascontiguousarray(alpha[::every]))
            if whole.paired is not None and group is known.paired:
                pairs = whole.paired.every(every)
                rate, gain = pairs.rate.copy(), pairs.gain.copy()
                terms = Terms(terms.importance, place[known.partner[::every]], rate, gain)
            sample = np.ascontiguousarray(clouds.target[:, group[::every]])
            found, _ = information_of_columns(
                sample, grid, offset, at.sigma, bin_weight, clouds.model.cutoff, basis, curved, terms
            )
            matrix = matrix + found * growth
        return matrix, clouds.log_likelihood(at, float(whole.sums.evidence), largest)
