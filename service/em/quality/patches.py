"""A cloud as surface patches: thinned to even density, with the normal of each point's neighbourhood."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..slices import blocks, pause
from .tuning import SURFACE

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Voxels are numbered along the axes with this stride.
STRIDE = 1 << 20
# Rounds of the search for a voxel's side.
ROUNDS = 12


class Patches(NamedTuple):
    """The points of a thinned cloud in random order, and the patches about them."""

    points: Float64  # (n, D)
    normals: Float64  # (n, D) unit vectors of the least variance
    flat: NDArray[np.bool_]  # (n,) whether that variance is much less than the others
    wide: NDArray[np.bool_]  # (n,) whether the points spread in all other directions, and not along a line alone
    tree: cKDTree
    spacing: float  # median distance between neighbours

    def nearest(self, at: Float64, count: int = 1) -> tuple[Float64, Int64]:
        """Distances (n, count) from places (n, D) to their nearest points, and the indices of these."""
        return nearest(self.tree, at, count)


def nearest(tree: cKDTree, at: Float64, count: int) -> tuple[Float64, Int64]:
    """Distances (n, count) from places (n, D) to the nearest points of a tree, and the indices of these."""
    some = [tree.query(at[part], np.arange(1, count + 1)) for part in blocks(len(at), 50 * count)]
    distance, index = (np.concatenate([np.asarray(one[i]) for one in some]) for i in range(2))
    return distance, index.astype(np.int64, copy=False)


def patches(points: Float64) -> Patches:
    """The patches of `points` (n, D), which `thinned` has returned."""
    tree = cKDTree(points)
    count, D = points.shape
    gaps = np.empty(count)
    normals, flat, wide = np.empty((count, D)), np.empty(count, np.bool_), np.empty(count, np.bool_)
    for some in blocks(count, 50 * SURFACE.patch):
        distance, index = nearest(tree, points[some], SURFACE.patch)
        gaps[some] = distance[:, 1]
        around = points[index] - points[index].mean(1, keepdims=True)
        variance, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))
        normals[some], flat[some] = axes[:, :, 0], variance[:, 0] <= SURFACE.flat * variance[:, 1]
        wide[some] = variance[:, 1] >= SURFACE.wide * variance[:, -1]
    return Patches(points, normals, flat, wide, tree, float(np.median(gaps)))


def thinned(points: Float64) -> Float64:
    """The means (n, D) of the points (D, N) in each voxel, in random order: at most about `SURFACE.points`."""
    some = points[:, :: -(-points.shape[1] // SURFACE.strided)].T
    if len(some) > SURFACE.points:
        low = some.min(0)
        side = 2 * float(np.median(np.abs(some - np.median(some, 0)).max(1))) / math.sqrt(SURFACE.points / 2)
        for _ in range(ROUNDS):
            pause()
            cell = np.minimum((some - low) / max(side, 1e-300), STRIDE - 1).astype(np.int64)
            code = cell @ STRIDE ** np.arange(cell.shape[1])
            _, place, counts = np.unique(code, return_inverse=True, return_counts=True)
            if len(counts) <= SURFACE.points:
                break
            side *= max(1.1, math.sqrt(len(counts) / SURFACE.points))
        some = np.stack([np.bincount(place, axis) / counts for axis in some.T], 1)
    # A fixed seed makes the answer repeatable.
    return np.ascontiguousarray(some[np.random.default_rng(1).permutation(len(some))])


def smooth_density(at: Float64, others: Float64, width: float, omitted: bool) -> Float64:
    """The logarithm (n,) of the density of `others` (m, D) at `at` (n, D), by Gaussian kernels of this width.

    With `omitted` each point is left out of its own density: the first n of `others` are `at`.
    """
    n, (m, D) = len(at), others.shape
    out = np.empty(n)
    for some in blocks(n, m):
        squares = np.zeros((len(at[some]), m))
        for d in range(D):
            squares += (at[some, d, None] - others[:, d]) ** 2
        squares *= -0.5 / width**2
        np.exp(squares, out=squares)
        out[some] = squares.sum(1)
    if omitted:
        out[:m] -= 1
        m -= 1
    return np.asarray(np.log(np.maximum(out, 0.1) / m) - D * math.log(math.sqrt(2 * math.pi) * width))
