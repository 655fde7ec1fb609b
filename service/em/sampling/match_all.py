"""The matching of all points, after an estimation from the means of voxels.

The E-step of every source point over the voxels of the target gives the likeliest voxel and its probability. The match
is the point of that voxel that is nearest to the moved source point.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..climbing.correspondence import Correspondence
from ..jit import compiled
from ..kernel.truncated import UNMATCHED
from ..kernel.voxels import Voxels
from ..slices import ROW_PAIRS, in_slices

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


def match_all(
    moved: Float64, target: Float64, cells: Voxels, best: Int64, mass: Float64, peak: Float64
) -> Correspondence:
    """The correspondence of all points.

    Args:
        moved: (P, N) the moved source.
        target: (P, M) all targets, in the same coordinates.
        cells: the voxels of the target, K of them.
        best: (N,) the likeliest voxel, or UNMATCHED.
        mass: (N,) the probability that the point has a partner.
        peak: (N,) the probability of the likeliest voxel.
    """
    unmatched = np.clip(1 - mass, 0.0, 1.0)
    voxel = np.where(unmatched > 0.5, UNMATCHED, best)
    members = np.argsort(cells.of, kind="stable")
    starts = np.concatenate([[0], np.cumsum(cells.counts)])
    match = np.empty(moved.shape[1], np.int64)
    arguments = moved, target, voxel, starts, members, match
    in_slices(len(match), lambda first, pairs: _nearest_rows(*arguments, first, pairs))
    return Correspondence(match, np.where(match == UNMATCHED, 0.0, np.minimum(peak, 1.0)), unmatched, None)


@compiled
def _nearest_rows(
    moved: Float64, target: Float64, voxel: Int64, starts: Int64, members: Int64, match: Int64, first: int, pairs: int
) -> int:
    """Write the nearest target of its voxel for the rows from `first` on. Returns the next row."""
    for i in range(first, len(match)):
        match[i] = UNMATCHED
        if voxel[i] != UNMATCHED:
            least = np.inf
            for k in range(starts[voxel[i]], starts[voxel[i] + 1]):
                j = members[k]
                square = 0.0
                for d in range(moved.shape[0]):
                    square += (moved[d, i] - target[d, j]) ** 2
                if square < least:
                    least = square
                    match[i] = j
            pairs -= starts[voxel[i] + 1] - starts[voxel[i]]
        pairs -= ROW_PAIRS
        if pairs <= 0:
            return i + 1
    return len(match)
