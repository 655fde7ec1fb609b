"""Rows and columns sum to one, outliers included: r_ij = u_i K_ij v_j (softassign, Gold et al. 1998)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..kernel.cells import cells
from ..kernel.expectation import expect
from ..kernel.fitting import sums_of_rows
from ..kernel.truncated import empty_e_step
from ..model import NONE, Parameters
from .clouds import Arrays, Clouds
from .correspondence import View
from .normalization import NormalizedEStep
from .rows import Rows

Float64 = NDArray[np.float64]
# The largest exponent by which a bin is scaled, well below the overflow of float64.
MOST_EXPONENT = 600.0


class Sinkhorn:
    """See `normalization.Normalization`.

    A step makes one sweep, which begins with the row factors u of the last step. The factors converge with the pose.
    """

    def __init__(self, clouds: Clouds) -> None:
        self._clouds = clouds
        self._log_u = np.zeros(clouds.source_count)  # -log u of the last step

    def expect(self, at: Parameters, spare: Arrays | None = None) -> NormalizedEStep:
        """The column factors from u, then the rows, whose responsibilities the M-step uses."""
        clouds, cutoff = self._clouds, self._clouds.model.cutoff
        n, m, precision = clouds.source_count, clouds.target_count, 0.5 / at.sigma**2
        moved, found = arrays = clouds.arrays(at.transform, spare)
        back = cells(moved, clouds.side(at.sigma))
        front = clouds.target_grid(at.sigma)
        row_bin, column_bin = clouds.bin_weight(at, 1 / m), clouds.bin_weight(at, 1 / n)
        other = empty_e_step(len(clouds.source), m)
        # Offsets are -log of the factors, shifted so that the least is 0; the bins are scaled accordingly.
        u = self._log_u
        shift = float(u.min())
        offset = np.ascontiguousarray((u - shift)[back.order])
        scaled = column_bin * math.exp(min(shift, MOST_EXPONENT))
        expect(clouds.target, back, offset, back.points, precision, scaled, cutoff, other, NONE)
        v = other.evidence - shift  # -log v_j = log(Σ_i K_ij u_i + β)
        low = float(v.min())
        offset = np.ascontiguousarray((v - low)[front.order])
        scaled = row_bin * math.exp(min(low, MOST_EXPONENT))
        expect(moved, front, offset, front.points, precision, scaled, cutoff, found, NONE)
        self._log_u = found.evidence - low
        sums = sums_of_rows(clouds.source, clouds.dimension, found)
        return NormalizedEStep(at, arrays, sums, 1 / m, offset=v - low)

    def view(self, last: NormalizedEStep) -> View:
        """The rows, with the column factors as weights of the targets."""
        clouds, found = self._clouds, last.found
        return View(
            last.moved,
            clouds.target_grid(last.at.sigma),
            last.offset,
            0.5 / last.at.sigma**2,
            -found.evidence,
            found.best,
            found.peak,
            found.mass,
            clouds.bin_weight(last.at, last.largest),
            clouds.model.cutoff,
        )

    def measure(self, at: Parameters) -> tuple[Float64, float]:
        """See `Normalization.measure`; of the rows, because the doubly normalised objective is not a likelihood."""
        return Rows(self._clouds).measure(at)
