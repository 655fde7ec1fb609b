"""The local surface patch of each point: its normal, where the neighbours lie in a plane (in 2-D, on a line)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..slices import pause

Float64 = NDArray[np.float64]

# The neighbours that make a patch, by D, and the larger number if noise hides most patches among so few.
NEIGHBOURS = {2: 8, 3: 12}
MORE_NEIGHBOURS = {2: 16, 3: 40}
# The deviation of the neighbours across a patch, relative to that along its narrower side, below which it is one, and
# below which it is surely one. Points of a solid have .7.
FLAT, SURE = 0.5, 0.2
# The share of points without a sure patch, below which the larger number is not tried.
ROUGH = 0.5
# Points in a block of the computation, which bounds memory and the time between two pauses.
BLOCK = 8192


class Patches(NamedTuple):
    """The patches of a cloud of K points."""

    normals: Float64  # (P, K) unit normals; zeros where the neighbours are not flat
    flat: float  # the share of the points that surely have one

    def given(self, normals: Float64 | None) -> Patches:
        """The patches with the unit `normals` (P, K) in their places, where these are not zero."""
        if normals is None:
            return self
        known = np.where((normals != 0).any(0), normals, self.normals)
        return Patches(known, float((known != 0).any(0).mean()))


def patches(points: Float64, dimension: int) -> Patches:
    """The patches of a cloud (P, K), from each point's nearest neighbours: the axis of their least variance."""
    cloud = np.ascontiguousarray(points[:dimension].T)
    normals = np.zeros(points.shape)
    tree = cKDTree(cloud, balanced_tree=False, compact_nodes=False)
    rough = np.arange(len(cloud))
    for count in NEIGHBOURS[dimension], MORE_NEIGHBOURS[dimension]:
        if len(cloud) <= count or len(rough) < ROUGH * len(cloud):
            break
        left = []
        for first in range(0, len(rough), BLOCK):
            pause()
            some = rough[first : first + BLOCK]
            found, ratio = _least_axes(cloud[tree.query(cloud[some], count)[1]])
            normals[:dimension, some[ratio < FLAT]] = found[ratio < FLAT].T
            left.append(some[~(ratio < SURE)])
        rough = np.concatenate(left) if left else rough[:0]
    return Patches(normals, 1 - len(rough) / max(len(cloud), 1))


def _least_axes(groups: Float64) -> tuple[Float64, Float64]:
    """The axis of least variance (n, D) of each group of points (n, k, D), and its deviation relative to the next (n,).

    Neighbours on a line have no plane, and those in one place have nothing: both have NaN.
    """
    off = groups - groups.mean(1, keepdims=True)
    variances, axes = np.linalg.eigh(np.swapaxes(off, 1, 2) @ off)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.sqrt(np.maximum(variances[:, 0], 0.0) / variances[:, 1])
    return axes[:, :, 0], ratio
