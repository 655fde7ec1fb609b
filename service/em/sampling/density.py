"""How evenly a cloud is sampled, and the side of the voxels that make two clouds even."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Float64 = NDArray[np.float64]

# The distance to this neighbour tells the local density, with a standard error of a third.
NEIGHBOUR = 8
# Points whose neighbours are searched. FEW of them tell that a cloud is even: if their ratio is at most EVEN.
SAMPLE, FEW = 2000, 200
# Smaller clouds are taken as they are: key points are few, and chosen by their owner.
LEAST_POINTS = 2000
# An even random sample of a surface or of a volume has a ratio of the ninth decile of these distances to the first of 2
# or less; steps of an organised depth image and the rings of a spinning lidar have 5 to 100.
UNEVEN, EVEN = 4.5, 3.0
# The deciles that are compared.
DENSE, SPARSE = 0.1, 0.9
# The side of the voxels, in the distances of the sparser decile: about one spacing. With 1 the largest errors of street
# scans are eight times as large. With half, rings hide the patches.
SIDE = 0.7
# Thinning stops where fewer voxels than this are left of a cloud.
LEAST_VOXELS = 500


def spread_of_spacing(points: Float64, dimension: int) -> tuple[float, float]:
    """The first and the ninth decile of the distance to the NEIGHBOUR-th neighbour in a cloud (P, N), N > NEIGHBOUR."""
    cloud = np.ascontiguousarray(points[:dimension].T)
    # An unbalanced tree is built in half the time.
    tree = cKDTree(cloud, balanced_tree=False, compact_nodes=False)
    for most in FEW, SAMPLE:
        sample = cloud[:: max(1, len(cloud) // most)]
        distance, _ = tree.query(sample, [NEIGHBOUR + 1])
        dense, sparse = np.quantile(distance, (DENSE, SPARSE))
        if sparse <= EVEN * dense:
            break
    return float(dense), float(sparse)


def even_side(source: Float64, target: Float64, dimension: int) -> float | None:
    """The side of the voxels that give both clouds (P, N), (P, M) one density; None if they are even as they are.

    It is about the spacing where the sparser cloud is sparse, so that most voxels are occupied by a point or more
    wherever either cloud has points.
    """
    if min(source.shape[1], target.shape[1]) < LEAST_POINTS:
        return None
    found = [spread_of_spacing(points, dimension) for points in (source, target)]
    if not any(sparse > UNEVEN * dense for dense, sparse in found):
        return None
    return SIDE * max(sparse for _, sparse in found)
