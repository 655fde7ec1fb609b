"""Which way round two clouds fit, by their moments alone: for dimensions in which no rotation can be searched for.

Between clouds made round, zero mean and unit covariance, an affine map is an orthogonal matrix Q. Moments that turn
with the cloud, M = mean f(‖x‖) x xᵀ, give it up to signs: eigenvectors belong together by the rank of their
eigenvalues (fourth-order blind identification, Cardoso 1989, where f is the square). The signs are tried.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# So many axes' signs are tried; the others' are those that make the third moments agree.
SIGNS = 7
# So many points of either cloud judge a candidate, and so many candidates are kept.
JUDGES = 256
KEPT = 4


def orthogonal_maps(source: Float64, target: Float64) -> list[Float64]:
    """Orthogonal matrices (D, D) that may map one round cloud (D, N) to another (D, M), the likeliest first."""
    candidates: list[tuple[float, Float64]] = []
    some = source[:, :: max(1, source.shape[1] // JUDGES)]
    judges = target[:, :: max(1, target.shape[1] // (4 * JUDGES))]
    for power in (2.0, 1.0, -1.0):
        u, v = _axes(source, power), _axes(target, power)
        x, y = u.T @ source, v.T @ target
        third_x, third_y = (x**3).mean(1), (y**3).mean(1)
        agreeing = np.where(third_x * third_y < 0, -1.0, 1.0)
        unsure = np.argsort(np.minimum(np.abs(third_x), np.abs(third_y)), kind="stable")[:SIGNS]
        for flips in itertools.product((1.0, -1.0), repeat=len(unsure)):
            signs = agreeing.copy()
            signs[unsure] *= flips
            Q = v * signs @ u.T
            candidates.append((_misfit(Q @ some, judges), Q))
    candidates.sort(key=lambda one: one[0])
    return [Q for _, Q in candidates[:KEPT]]


def _axes(cloud: Float64, power: float) -> Float64:
    """The eigenvectors (D, D) of mean ‖x‖^power x xᵀ, by rising eigenvalue."""
    weights = np.maximum(np.linalg.norm(cloud, axis=0), 1e-3) ** power
    return np.asarray(np.linalg.eigh((cloud * weights) @ cloud.T / cloud.shape[1])[1])


def _misfit(moved: Float64, target: Float64) -> float:
    """The median squared distance from a point to its nearest target."""
    squares = (moved**2).sum(0)[:, None] + (target**2).sum(0) - 2 * moved.T @ target
    return float(np.median(squares.min(1)))
