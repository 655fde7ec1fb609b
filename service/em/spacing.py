"""How far apart a cloud's points are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.em.cells import AXES, Cells, cells
from service.em.jit import compiled
from service.em.truncated import neighbours

Float64 = NDArray[np.float64]

# Points whose neighbours are looked for.
SAMPLE = 200


def spacing_between(points: Float64, dimension: int) -> float:
    """The median distance from a point to the nearest one elsewhere, over a sample; 0 for none."""
    m = points.shape[1]
    if m == 1:
        return 0.0
    extent = float(np.abs(points).max())
    grid = cells(points, extent / m ** (1 / min(dimension, AXES)))
    distance = np.sqrt(_nearest_elsewhere(np.ascontiguousarray(points[:, : min(m, SAMPLE)]), grid))
    return float(np.median(distance)) if np.isfinite(distance).all() else 0.0


@compiled
def _nearest_elsewhere(sample: Float64, grid: Cells) -> Float64:
    """The squared distance (n,) from each point to the nearest target that is not at the same place; inf for none."""
    size = grid.points.shape[1]
    index, distance = np.empty(size, np.int32), np.empty(size)
    out = np.empty(sample.shape[1])
    for i in range(sample.shape[1]):
        reach = grid.side**2
        least = np.inf
        while True:
            found, everything = neighbours(sample, i, grid, reach, index, distance)
            for k in range(found):
                if distance[k] > 0:
                    least = min(least, distance[k])
            if least < np.inf or (everything and found == size):
                break
            reach *= 4
        out[i] = least
    return out
