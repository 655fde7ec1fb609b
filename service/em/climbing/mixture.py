"""The mixture that EM fits, for each choice of prior, outliers and normalisation.

With `rows` each source point is drawn from the targets, or is an outlier:

    p(p_i) = (1 - w) Σ_j π_j N(A p_i + t; q_j, σ² I) + w / V

with the share w of outliers, spread evenly over the volume V of the target, and π_j = 1/M or estimated ("mixing").
With `columns` the roles are swapped: each target point is drawn from the moved sources, or is an outlier (the Gaussian
mixture of coherent point drift, Myronenko and Song 2010). With `sinkhorn` both hold: r_ij = u_i K_ij v_j, and rows and
columns sum to one, outliers included (softassign, Gold et al. 1998).

The E-step belongs to the normalisation, one file each; the M-step, here, is the same for all.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import slices
from ..coordinates import Frame
from ..kernel.cells import ONE_CELL_SIDE, corners, sorted_cells
from ..kernel.fitting import Sums, fit, residual_after
from ..kernel.truncated import empty_e_step
from ..model import LEAST_OUTLIERS, Model, Parameters
from .clouds import Arrays, Clouds
from .columns import Columns
from .correspondence import View
from .given_prior import GivenPrior
from .normalization import Normalization, NormalizedEStep
from .plain import Rules, ascend
from .rows import Rows
from .sinkhorn import Sinkhorn

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Up to this many pairs in reach, a compiled run of plain steps takes less time than calling them one by one. Of a
# larger target a point reaches about REACHED_TARGETS.
COMPILED_PAIRS = 2_000_000
REACHED_TARGETS = 1000


class Step(NamedTuple):
    """One E-step, and the parameters that its M-step gives. It owns its arrays until it is handed over as `spare`."""

    after: Parameters
    log_likelihood: float  # observed-data, before the M-step
    expectation: NormalizedEStep

    @property
    def sums(self) -> Sums:
        """The sums that the M-step was computed from."""
        return self.expectation.sums

    @property
    def within(self) -> Float64:
        """The moments (D + 1, D + 1) of the matched source points."""
        return self.sums.within

    @property
    def matched(self) -> float:
        """The expected number of data points that have a partner."""
        mass, importance = self.expectation.found.mass, self.expectation.importance
        return float(mass @ importance) if len(importance) else float(mass.sum())


class Mixture:
    """E- and M-steps of one problem, on all of its points or on a sample.

    The arguments are those of `Clouds`.
    """

    def __init__(self, points: Frame, model: Model, volume: float, some: Int64 | None = None) -> None:
        self.model = model
        self._clouds = Clouds(points, model, volume, some)
        self._normalization = _normalization(self._clouds)

    def step(self, parameters: Parameters, spare: Step | None = None) -> Step:
        """One E-step at `parameters`, and its M-step.

        `spare` is an earlier step of this mixture that is no longer needed: this step overwrites its arrays.
        """
        arrays = None if spare is None else spare.expectation.arrays
        expectation = self._normalization.expect(parameters, arrays)
        evidence = float(expectation.sums.evidence)
        likelihood = self._clouds.log_likelihood(parameters, evidence, expectation.largest)
        return Step(self._maximize(expectation), likelihood, expectation)

    @property
    def data_count(self) -> float:
        """The effective number of data points."""
        return self._clouds.data_count

    def view(self, last: Step) -> View:
        """The responsibilities of a step, as seen from the source."""
        return self._normalization.view(last.expectation)

    def measure(self, parameters: Parameters) -> tuple[Float64, float]:
        """The observed information of transform and log σ, and the log-likelihood, at `parameters`.

        The information is (K + D + 1, K + D + 1), in the frame's coordinates; see `information`. With sinkhorn both
        are those of the rows.
        """
        return self._normalization.measure(parameters)

    def ascend(
        self, start: Parameters, *, tolerance: float, max_iterations: int, floor: float
    ) -> tuple[Step, list[tuple[Parameters, float]], bool] | None:
        """Plain compiled steps until they settle; None for large problems and for models that `plain` does not cover.

        Returns the last step, the parameters and the log-likelihood of every E-step, and whether the steps settled.
        """
        clouds, model = self._clouds, self.model
        n, m, D = clouds.source_count, clouds.target_count, clouds.dimension
        small = n * min(m, REACHED_TARGETS) <= COMPILED_PAIRS
        even = not (model.mixing or len(start.weights)) and model.known.nothing
        if not even or not isinstance(self._normalization, Rows) or not small:
            return None
        rules = Rules(
            model.kind,
            model.estimate_sigma,
            model.estimate_outliers,
            LEAST_OUTLIERS,
            model.most_outliers,
            clouds.log_volume,
            model.cutoff,
            float(tolerance),  # a whole number would need other machine code
            max_iterations,
            floor,
        )
        moved, found = arrays = Arrays(np.zeros(clouds.source.shape), empty_e_step(len(clouds.source), n))
        transforms, numbers = np.empty((max_iterations, D, D + 1)), np.empty((max_iterations, 3))
        grid, side, row = sorted_cells(clouds.target, *corners(clouds.target), ONE_CELL_SIDE), 0.0, 0
        at, steps = start[:3], 0
        while True:
            end = ascend(
                clouds.source,
                clouds.target,
                *at,
                rules,
                moved,
                found,
                transforms,
                numbers,
                grid,
                side,
                steps,
                row,
                slices.SLICE_PAIRS,
            )
            at, steps, grid, side, row = end.after, end.iterations, end.grid, end.side, end.row
            if end.converged or steps >= max_iterations:
                break
            slices.pause()
        taken: list[tuple[Parameters, float]] = []
        for transform, (sigma, outliers, evidence) in zip(transforms, numbers[:steps].tolist(), strict=False):
            here = Parameters(transform, sigma, outliers)
            taken.append((here, clouds.log_likelihood(here, evidence, 1 / m)))
        last, likelihood = taken[-1]
        expectation = NormalizedEStep(last, arrays, end.sums, 1 / m)
        return Step(Parameters(*end.after), likelihood, expectation), taken, end.converged

    def _maximize(self, expectation: NormalizedEStep) -> Parameters:
        """The M-step: the transform, then σ at the new transform, w and π."""
        model, D = self.model, self._clouds.dimension
        before, sums = expectation.at, expectation.sums
        transform = fit(model.kind, before.transform, sums)
        total = float(sums.within[D, D])
        sigma, outliers, weights = before.sigma, before.outliers, before.weights
        if model.estimate_sigma and total > 0:
            sigma = math.sqrt(residual_after(sums, before.transform, transform) / (total * D))
        if model.estimate_outliers:
            share = 1 - total / self._clouds.data_count
            outliers = min(max(share, LEAST_OUTLIERS), model.most_outliers)
        if model.mixing and total > 0:
            weights = expectation.mass / expectation.mass.sum()
        return Parameters(transform, sigma, outliers, weights)


def _normalization(clouds: Clouds) -> Normalization:
    model = clouds.model
    if model.normalize == "sinkhorn":
        return Sinkhorn(clouds)
    if model.normalize == "columns":
        return Columns(clouds)
    return GivenPrior(clouds) if len(model.log_prior) else Rows(clouds)
