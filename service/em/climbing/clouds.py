"""Both clouds of one problem: moved points, arrays for E-steps, grids, and the weight of the outlier bin."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..coordinates import Frame
from ..kernel.cells import Cells, cells
from ..kernel.fitting import move
from ..kernel.truncated import EStep, empty_e_step
from ..kinds import MAPS
from ..model import NONE, Model, Parameters, bin_weight, log_of_volume, log_root
from .known import products

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Clouds of more points than this use cells of half the kernel's reach: fewer candidates outweigh more cells.
HALF_CELL_POINTS = 200_000
# A grid of the targets is kept while its cells are between half and twice the wanted side.
SIDE_RATIO = 2.0


class Arrays(NamedTuple):
    """The arrays that an E-step fills."""

    moved: Float64  # (P, N) the source under the transform
    found: EStep  # of the data: the target's points for columns, else the source's


class Clouds:
    """The points of the E-step.

    Args:
        points: the clouds.
        model: the choices of the model.
        volume: V, over which outliers are spread, in the target's unit to the power of D.
        some: indices of the data points to use, for climbing on a sample: of the target for columns, else of the
            source. None uses all.
    """

    def __init__(self, points: Frame, model: Model, volume: float, some: Int64 | None = None) -> None:
        self.model = model
        self.dimension = points.dimension
        self.log_volume = log_of_volume(volume)
        self.source, self.target, self.known = points.source, points.target, model.known
        if some is not None and model.normalize == "columns":
            self.target = np.ascontiguousarray(self.target[:, some])
        elif some is not None:
            self.source = np.ascontiguousarray(self.source[:, some])
        if some is not None:
            self.known = self.known.of(some)
        self._grid: Cells | None = None
        self._grid_side = 0.0

    @property
    def source_count(self) -> int:
        """The number N of source points."""
        return int(self.source.shape[1])

    @property
    def target_count(self) -> int:
        """The number M of targets."""
        return int(self.target.shape[1])

    @property
    def data_count(self) -> float:
        """The effective number of data points."""
        if len(self.known.importance):
            return float(self.known.importance.sum())
        return self.target_count if self.model.normalize == "columns" else self.source_count

    @property
    def products(self) -> int:
        """The number of products of coordinates that a weighted E-step over the target sums; see `known`."""
        return products(self.dimension) if MAPS[self.model.kind].fits_linear else 0

    def moved(self, transform: Float64) -> Float64:
        """The source (P, N) under `transform` (D, D + 1), in a new array."""
        out = np.zeros(self.source.shape)
        move(transform, self.source, out)
        return out

    def arrays(self, transform: Float64, spare: Arrays | None) -> Arrays:
        """The source under `transform` (D, D + 1), and uninitialised arrays for the E-step.

        They overwrite `spare`, which must come from this method. New arrays of large clouds would take a tenth of the
        time of the E-step, because the system clears their memory.
        """
        if spare is None:
            columns, rank = self.model.normalize == "columns", len(self.source)
            count = self.target_count if columns else self.source_count
            if columns and not self.known.nothing:
                rank += self.products
            return Arrays(self.moved(transform), empty_e_step(rank, count))
        move(transform, self.source, spare.moved)
        return spare

    def side(self, sigma: float) -> float:
        """The side of a cell for a kernel of width `sigma`."""
        reach = sigma * math.sqrt(2 * self.model.cutoff)
        return reach / 2 if max(self.source_count, self.target_count) > HALF_CELL_POINTS else reach

    def target_grid(self, sigma: float) -> Cells:
        """The targets in cells for a kernel of width `sigma`; nearby widths share one grid."""
        side = self.side(sigma)
        if self._grid is None or not 1 / SIDE_RATIO < side / self._grid_side < SIDE_RATIO:
            self._grid, self._grid_side = cells(self.target, side), side
        return self._grid

    def bin_weight(self, at: Parameters, largest: float) -> float:
        """β of `model.bin_weight` at these parameters; `largest` is the greatest weight π."""
        return bin_weight(at.outliers, at.sigma, self.dimension, self.log_volume, largest)

    def log_likelihood(self, at: Parameters, evidence: float, largest: float) -> float:
        """The observed-data log-likelihood of all data points, given their summed log z."""
        factor = math.log((1 - at.outliers) * largest)
        return evidence + self.data_count * (factor - self.dimension * log_root(at.sigma))


def offsets(weights: Float64, grid: Cells) -> tuple[Float64, float]:
    """-log(π / max π) (M,) in the grid's order, and max π, for `weights` π (M,). Empty and 1/M for equal weights."""
    if not len(weights):
        return NONE, 1 / len(grid.order)
    largest = float(weights.max())
    # A weight of 0 becomes a tiny one, because log 0 would be infinite.
    scaled = np.maximum(weights[grid.order] / largest, 1e-300)
    return -np.log(scaled), largest


def unsorted(values: Float64, grid: Cells) -> Float64:
    """`values` (M,) from the grid's order into the order of the points before sorting; empty if empty."""
    if not len(values):
        return values
    out = np.empty_like(values)
    out[grid.order] = values
    return out
