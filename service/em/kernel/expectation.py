"""The truncated E-step of all points, in slices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..slices import in_slices
from .cells import Cells
from .truncated import EStep, expect_rows

Float64 = NDArray[np.float64]


def expect(
    x: Float64,
    grid: Cells,
    offset: Float64,
    payload: Float64,
    precision: float,
    bin_weight: float,
    cutoff: float,
    out: EStep,
    columns: Float64,
) -> None:
    """`truncated.expect_rows` of all of `x` (P, N), with pauses."""
    arguments = x, grid, offset, payload, precision, bin_weight, cutoff, out, columns
    in_slices(x.shape[1], lambda first, pairs: expect_rows(*arguments, first, pairs)[0])
