"""The mixture that EM climbs: what an E-step and its M-step are for each choice of prior, outliers and normalisation.

With `rows` each source point is drawn from the targets, or is an outlier:

    p(p_i) = (1 - w) Σ_j π_j N(A p_i + t; q_j, σ² I) + w / V

with the weight w of outliers, spread evenly over the volume V of the target, and π_j = 1/M or estimated ("mixing").
With `columns` the roles are swapped: each target point is drawn from the moved sources, or is an outlier (the Gaussian
mixture of coherent point drift, Myronenko and Song 2010). With `sinkhorn` both hold at once: r_ij = u_i K_ij v_j, and
rows and columns sum to one, outliers included (softassign, Gold et al. 1998).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..coordinates import Frame
from ..kernel.cells import Cells, cells
from ..kernel.fitting import (
    RIGID,
    SIMILARITY,
    Sums,
    fit,
    move,
    residual_after,
    sums_of_columns,
    sums_of_rows,
)
from ..kernel.truncated import EStep, empty_e_step, expect
from ..model import LEAST_OUTLIERS, NONE, Model, Parameters, bin_weight, log_root
from .correspondence import View
from .information import fill, generators, information, information_of_columns, measure, moments
from .plain import Rules, ascend

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# So many points determine the information, a sum over all of them, to a part in a hundred.
INFORMATIVE = 20_000
# Above so many points to look through it pays to have finer cells than the kernel reaches.
FINE = 200_000
# Below so many pairs that count a whole ascent takes less time than one look at the clock.
SMALL_PAIRS = 2_000_000


class Step(NamedTuple):
    """One E-step, and the parameters that its M-step gives."""

    after: Parameters
    log_likelihood: float  # observed-data, before the M-step
    found: EStep  # of the source's points, or of the target's for columns; the next step writes over it
    sums: Sums


class Mixture:
    """E- and M-steps of one problem, on all of its points or on some.

    Args:
        points: the clouds.
        model: the choices.
        some: indices of the points that the sum over the data runs over: of the source, or of the target for columns.
        volume: V.
    """

    def __init__(self, points: Frame, model: Model, volume: float, some: Int64 | None = None) -> None:
        self.model = model
        self._dimension = points.dimension
        self._volume = volume
        self._source, self._target = points.source, points.target
        self._some = some
        self._swapped = model.normalize == "columns"
        if some is not None and self._swapped:
            self._target = np.ascontiguousarray(self._target[:, some])
        elif some is not None:
            self._source = np.ascontiguousarray(self._source[:, some])
        self._moved = np.zeros_like(self._source)
        self._found = empty_e_step(len(self._source), (self._target if self._swapped else self._source).shape[1])
        self._grid: Cells | None = None
        self._wanted = 0.0  # the side that the grid was made for
        self._log_u = NONE  # -log of the rows' factors of sinkhorn, from one step to the next
        self._row_offset = NONE  # and of the columns'
        self.at: Parameters | None = None  # where the last step was taken

    def bin_weight(self, parameters: Parameters, largest: float) -> float:
        """β: the outlier bin's weight beside Gaussians without their factor, whose largest weight is `largest`."""
        return bin_weight(parameters.outliers, parameters.sigma, self._dimension, math.log(self._volume), largest)

    def step(self, parameters: Parameters) -> Step:
        """One E-step and its M-step."""
        self.at = parameters
        move(parameters.transform, self._source, self._moved)
        precision = 0.5 / parameters.sigma**2
        if self.model.normalize == "sinkhorn":
            return self._sinkhorn(parameters, precision)
        if self._swapped:
            return self._columns(parameters, precision)
        if len(self.model.log_prior):
            return self._given(parameters, precision)
        return self._rows(parameters, precision)

    def _given(self, parameters: Parameters, precision: float) -> Step:
        """With a prior for each pair there is no getting around the N x M numbers."""
        weights, evidence = self._posterior(parameters, precision)
        found = self._found
        found.mass[:] = weights.sum(1)
        found.weighted_target[:] = self._target @ weights.T
        found.residual[:] = (weights * self._squares()).sum(1)
        found.best[:] = weights.argmax(1)
        found.peak[:] = weights.max(1)
        found.evidence[:] = evidence
        return self._maximize(parameters, sums_of_rows(self._source, self._dimension, found), 1.0, NONE)

    def _squares(self) -> Float64:
        D = self._dimension
        squares = np.zeros(self.model.log_prior.shape)
        for x, y in zip(self._moved[:D], self._target[:D], strict=True):
            squares += (x[:, None] - y) ** 2
        return squares

    def ascend(
        self, start: Parameters, *, tolerance: float, max_iterations: int, floor: float
    ) -> tuple[Step, list[tuple[Parameters, float]], bool] | None:
        """Plain steps until they settle: the last, all E-steps, and whether they did; None for other models.

        For small problems, whose steps cost less than to call them one by one. Of each E-step, where it was taken and
        the log-likelihood there.
        """
        model = self.model
        small = self._source.shape[1] * min(self._target.shape[1], 1000) <= SMALL_PAIRS
        if model.mixing or model.normalize != "rows" or len(model.log_prior) or not small:
            return None
        rules = Rules(
            model.kind,
            model.estimate_sigma,
            model.estimate_outliers,
            LEAST_OUTLIERS,
            model.most_outliers,
            math.log(self._volume),
            model.cutoff,
            tolerance,
            max_iterations,
            floor,
        )
        D = self._dimension
        transforms, numbers = np.empty((max_iterations, D, D + 1)), np.empty((max_iterations, 3))
        end = ascend(self._source, self._target, *start[:3], rules, self._moved, self._found, transforms, numbers)
        taken: list[tuple[Parameters, float]] = []
        for transform, (sigma, outliers, evidence) in zip(transforms, numbers[: end.iterations].tolist(), strict=False):
            at = Parameters(transform, sigma, outliers)
            taken.append((at, self._likelihood(at, evidence, 1 / self._target.shape[1])))
        self.at = taken[-1][0]
        return Step(Parameters(*end.after), taken[-1][1], self._found, end.sums), taken, end.converged

    def _rows(self, parameters: Parameters, precision: float) -> Step:
        grid = self._target_grid(parameters.sigma)
        offset, largest = self._offset(parameters.weights, grid, self._target.shape[1])
        bin_weight = self.bin_weight(parameters, largest)
        columns = np.zeros(self._target.shape[1] if self.model.mixing else 0)
        cutoff = self.model.cutoff
        expect(self._moved, grid, offset, grid.points, precision, bin_weight, cutoff, self._found, columns)
        sums = sums_of_rows(self._source, self._dimension, self._found)
        return self._maximize(parameters, sums, largest, self._unsorted(columns, grid))

    def _columns(self, parameters: Parameters, precision: float) -> Step:
        grid = cells(self._moved, self._side(parameters.sigma))
        offset, largest = self._offset(parameters.weights, grid, self._source.shape[1])
        bin_weight = self.bin_weight(parameters, largest)
        columns = np.zeros(self._source.shape[1])
        payload = np.ascontiguousarray(self._source[:, grid.order])
        cutoff = self.model.cutoff
        expect(self._target, grid, offset, payload, precision, bin_weight, cutoff, self._found, columns)
        columns = self._unsorted(columns, grid)
        sums = sums_of_columns(self._source, self._target, self._dimension, self._found, columns)
        return self._maximize(parameters, sums, largest, columns)

    def _sinkhorn(self, parameters: Parameters, precision: float) -> Step:
        """Columns first, from the u of the step before, then rows, which the M-step takes."""
        n, m = self._source.shape[1], self._target.shape[1]
        cutoff = self.model.cutoff
        back = cells(self._moved, self._side(parameters.sigma))
        front = self._target_grid(parameters.sigma)
        bins = self.bin_weight(parameters, 1 / m), self.bin_weight(parameters, 1 / n)
        other = empty_e_step(len(self._source), m)
        u = self._log_u if len(self._log_u) else np.zeros(n)
        # Offsets are -log of the factors, shifted so that the least is 0; the bins are shifted along.
        shift = float(u.min())
        expect(
            self._target,
            back,
            np.ascontiguousarray((u - shift)[back.order]),
            back.points,
            precision,
            bins[1] * math.exp(min(shift, 600.0)),
            cutoff,
            other,
            NONE,
        )
        v = other.evidence - shift  # -log v_j = log(Σ_i K_ij u_i + β)
        low = float(v.min())
        expect(
            self._moved,
            front,
            np.ascontiguousarray((v - low)[front.order]),
            front.points,
            precision,
            bins[0] * math.exp(min(low, 600.0)),
            cutoff,
            self._found,
            NONE,
        )
        self._log_u = self._found.evidence - low
        self._row_offset = v - low
        sums = sums_of_rows(self._source, self._dimension, self._found)
        return self._maximize(parameters, sums, 1 / m, NONE)

    def _maximize(self, before: Parameters, sums: Sums, largest: float, columns: Float64) -> Step:
        model, D = self.model, self._dimension
        transform = fit(model.kind, before.transform, sums)
        total = float(sums.within[D, D])
        count = len(self._found.mass)
        sigma = before.sigma
        if model.estimate_sigma and total > 0:
            sigma = math.sqrt(residual_after(sums, before.transform, transform) / (total * D))
        outliers = before.outliers
        if model.estimate_outliers:
            outliers = min(max(1 - total / count, LEAST_OUTLIERS), model.most_outliers)
        weights = before.weights
        if model.mixing and total > 0:
            weights = columns / columns.sum()
        likelihood = self._likelihood(before, float(sums.evidence), largest)
        return Step(Parameters(transform, sigma, outliers, weights), likelihood, self._found, sums)

    def _likelihood(self, at: Parameters, evidence: float, largest: float) -> float:
        factor = math.log((1 - at.outliers) * largest)
        return evidence + len(self._found.mass) * (factor - self._dimension * log_root(at.sigma))

    def view(self) -> View:
        """The last step as the source sees it. Call it on the whole problem."""
        at = self.at
        if at is None:
            raise RuntimeError("no step was taken")
        n, m = self._source.shape[1], self._target.shape[1]
        precision, cutoff = 0.5 / at.sigma**2, self.model.cutoff
        grid = self._target_grid(at.sigma)
        found, order = self._found, grid.order
        if len(self.model.log_prior):
            return View(
                self._moved,
                grid,
                NONE,
                precision,
                -found.evidence,
                found.best,
                found.peak,
                found.mass,
                self.bin_weight(at, 1.0),
                cutoff,
                dense=self._posterior(at, precision)[0],
            )
        if not self._swapped:
            sinkhorn = self.model.normalize == "sinkhorn"
            sorted_offset, largest = self._offset(at.weights, grid, m)
            offset = self._row_offset if sinkhorn else self._unsorted(sorted_offset, grid)
            bin_weight = self.bin_weight(at, largest)
            return View(
                self._moved,
                grid,
                offset,
                precision,
                -found.evidence,
                found.best,
                found.peak,
                found.mass,
                bin_weight,
                cutoff,
                target_cost=offset if len(at.weights) else None,
            )
        # Each target's r was normalised by its own z_j: from the source that is one more weight for each target.
        shift = float(found.evidence.min())
        offset = found.evidence - shift
        largest = float(at.weights.max()) if len(at.weights) else 1 / n
        own = np.log(np.maximum(at.weights / largest, 1e-300)) if len(at.weights) else np.zeros(n)
        seen = empty_e_step(len(self._source), n)
        front = np.ascontiguousarray(offset[order])
        expect(self._moved, grid, front, grid.points, precision, 0.0, cutoff, seen, NONE)
        mass = np.exp(np.minimum(seen.evidence - shift + own, 0.0))
        return View(
            self._moved,
            grid,
            offset,
            precision,
            own - shift,
            seen.best,
            seen.peak * mass,
            mass,
            self.bin_weight(at, largest),
            cutoff,
            source_cost=-own if len(at.weights) else None,
        )

    @property
    def matched(self) -> float:
        """How many points of the data have a partner, by the last step."""
        return float(self._found.mass.sum())

    def measure(self, parameters: Parameters) -> tuple[Float64, float]:
        """The observed information of transform and log σ, and the log-likelihood, at `parameters`.

        With sinkhorn those of the rows. In the frame's coordinates; see `information`.
        """
        at, model = parameters, self.model
        move(at.transform, self._source, self._moved)
        D, kind = self._dimension, model.kind
        swapped, count = self._swapped, len(self._found.mass)
        grid = cells(self._moved, self._side(at.sigma)) if swapped else self._target_grid(at.sigma)
        given = bool(len(model.log_prior))
        offset, largest = self._offset(at.weights, grid, (self._source if swapped else self._target).shape[1])
        bin_weight = self.bin_weight(at, 1.0 if given else largest)
        if swapped:
            matrix, evidence = self._measure_columns(at, grid, offset, bin_weight)
        else:
            if given:
                found = moments(D, count)
                weights, found.evidence[:] = self._posterior(at, 0.5 / at.sigma**2)
                fill(found, self._moved, self._target, weights, at.sigma)
                matrix, evidence = information(kind, self._moved, found, at.sigma), float(found.evidence.sum())
            else:
                matrix, evidence = self._measure_rows(at, grid, offset, bin_weight)
        return matrix, self._likelihood(at, evidence, 1.0 if given else largest)

    def _measure_rows(self, at: Parameters, grid: Cells, offset: Float64, bin_weight: float) -> tuple[Float64, float]:
        """The information, of a large source from a sample of its points, and the evidence, always of all of them."""
        count, precision, cutoff = self._source.shape[1], 0.5 / at.sigma**2, self.model.cutoff
        every = -(-count // INFORMATIVE)
        sample = np.ascontiguousarray(self._moved[:, ::every])
        found = moments(self._dimension, sample.shape[1])
        measure(sample, grid, offset, precision, bin_weight, cutoff, found)
        matrix = information(self.model.kind, sample, found, at.sigma) * (count / sample.shape[1])
        if every == 1:
            return matrix, float(found.evidence.sum())
        seen = empty_e_step(len(self._source), count)
        expect(self._moved, grid, offset, grid.points, precision, bin_weight, cutoff, seen, NONE)
        return matrix, float(seen.evidence.sum())

    def _measure_columns(
        self, at: Parameters, grid: Cells, offset: Float64, bin_weight: float
    ) -> tuple[Float64, float]:
        """The same where the target's points are the data."""
        kind, cutoff, count = self.model.kind, self.model.cutoff, self._target.shape[1]
        basis, curved = generators(kind, self._dimension), kind in {RIGID, SIMILARITY}
        every = -(-count // INFORMATIVE)
        sample = np.ascontiguousarray(self._target[:, ::every])
        matrix, evidence = information_of_columns(sample, grid, offset, at.sigma, bin_weight, cutoff, basis, curved)
        if every == 1:
            return matrix, evidence
        seen = empty_e_step(len(self._target), count)
        expect(self._target, grid, offset, grid.points, 0.5 / at.sigma**2, bin_weight, cutoff, seen, NONE)
        return matrix * (count / sample.shape[1]), float(seen.evidence.sum())

    def _posterior(self, at: Parameters, precision: float) -> tuple[Float64, Float64]:
        """R (N, M) and log z (N,) where the prior is a matrix."""
        logits = self.model.log_prior - precision * self._squares()
        bin_weight = self.bin_weight(at, 1.0)
        log_bin = math.log(bin_weight) if bin_weight > 0 else -math.inf
        top = np.maximum(logits.max(1), log_bin)
        weights = np.exp(logits - top[:, None])
        total = weights.sum(1) + np.exp(log_bin - top)
        return weights / total[:, None], np.log(total) + top

    def _offset(self, weights: Float64, grid: Cells, count: int) -> tuple[Float64, float]:
        """-log(π_j / max π) in the grid's order, and max π."""
        if not len(weights):
            return NONE, 1 / count
        largest = float(weights.max())
        # A target that nobody was drawn from stays in, far below all others: log 0 has no place in a sum.
        scaled = np.maximum(weights[grid.order] / largest, 1e-300)
        return -np.log(scaled), largest

    def _unsorted(self, columns: Float64, grid: Cells) -> Float64:
        if not len(columns):
            return columns
        out = np.empty_like(columns)
        out[grid.order] = columns
        return out

    def _side(self, sigma: float) -> float:
        reach = sigma * math.sqrt(2 * self.model.cutoff)
        return reach / 2 if max(self._source.shape[1], self._target.shape[1]) > FINE else reach

    def _target_grid(self, sigma: float) -> Cells:
        side = self._side(sigma)
        if self._grid is None or not 0.5 < side / self._wanted < 2:
            self._grid, self._wanted = cells(self._target, side), side
        return self._grid
