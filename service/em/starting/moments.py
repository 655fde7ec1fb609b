"""The orientation of two clouds by their moments alone, for dimensions too high to search all rotations.

Between whitened clouds, of zero mean and unit covariance, an affine map is an orthogonal matrix Q. Moments that rotate
with the cloud, M = mean f(‖x‖) x xᵀ, determine it up to signs: eigenvectors correspond by the rank of their
eigenvalues (fourth-order blind identification, Cardoso 1989, where f is the square). The signs are tried.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# Axes of which both signs are tried; the others take the sign for which the third moments agree.
TRIED_AXES = 7
# Source points that a candidate is compared on, and candidates that are kept.
COMPARED_POINTS = 256
CANDIDATES = 4


def orthogonal_maps(source: Float64, target: Float64) -> list[Float64]:
    """Orthogonal matrices (D, D) that may map one whitened cloud (D, N) to another (D, M), the likeliest first."""
    candidates: list[tuple[float, Float64]] = []
    some = source[:, :: max(1, source.shape[1] // COMPARED_POINTS)]
    judges = target[:, :: max(1, target.shape[1] // (4 * COMPARED_POINTS))]
    for power in (2.0, 1.0, -1.0):
        u, v = _axes(source, power), _axes(target, power)
        x, y = u.T @ source, v.T @ target
        third_x, third_y = (x**3).mean(1), (y**3).mean(1)
        agreeing = np.where(third_x * third_y < 0, -1.0, 1.0)
        unsure = np.argsort(np.minimum(np.abs(third_x), np.abs(third_y)), kind="stable")[:TRIED_AXES]
        for flips in itertools.product((1.0, -1.0), repeat=len(unsure)):
            signs = agreeing.copy()
            signs[unsure] *= flips
            Q = v * signs @ u.T
            candidates.append((_misfit(Q @ some, judges), Q))
    candidates.sort(key=lambda one: one[0])
    return [Q for _, Q in candidates[:CANDIDATES]]


def _axes(cloud: Float64, power: float) -> Float64:
    """The eigenvectors (D, D) of mean ‖x‖^power x xᵀ, by rising eigenvalue."""
    weights = np.maximum(np.linalg.norm(cloud, axis=0), 1e-3) ** power
    return np.asarray(np.linalg.eigh((cloud * weights) @ cloud.T / cloud.shape[1])[1])


def _misfit(moved: Float64, target: Float64) -> float:
    """The median squared distance from a point to its nearest target."""
    squares = (moved**2).sum(0)[:, None] + (target**2).sum(0) - 2 * moved.T @ target
    return float(np.median(squares.min(1)))
