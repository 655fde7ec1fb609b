"""Poses that many pairs of points agree on, although most of the pairs are wrong.

A rigid motion keeps distances. Two pairs are compatible if the distance between their source points is that between
their targets. Wrong pairs are compatible by chance, but seldom with the same others. The similarity of two compatible
pairs is therefore the number of pairs that are compatible with both (Chen, Sun, Yang and Tao 2022).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernel.fitting import Sums, fit
from ..kinds import RIGID
from ..slices import pause

Float64 = NDArray[np.float64]

# Poses that are proposed, and the pairs that each is computed from at first.
POSES, TOGETHER = 32, 20
# The fewest pairs that support a pose, and the rounds in which it is fitted to those that do.
LEAST_SUPPORT, ROUNDS = 5, 2


class Proposal(NamedTuple):
    """A pose and the number of pairs that support it."""

    transform: Float64  # (3, 4)
    support: int


def proposals(source: Float64, target: Float64, tolerance: float, apart: float) -> list[Proposal]:
    """Rigid poses from pairs of points (3, K), (3, K), with the most support first.

    Args:
        source: the source point of each pair.
        target: its target.
        tolerance: the error of a distance between compatible pairs.
        apart: the least such distance: nearer pairs are compatible by chance.
    """
    if source.shape[1] < LEAST_SUPPORT:
        return []
    pause()
    one, other = _distances(source), _distances(target)
    fits = ((np.abs(one - other) < tolerance) & (np.minimum(one, other) > apart)).astype(np.float32)
    pause()
    common = fits * (fits @ fits)  # whole numbers below 2^24: exact in any order of sums
    weight = common.sum(1)
    left = np.ones(len(weight), np.bool_)
    found: list[Proposal] = []
    while len(found) < POSES and left.any():
        pause()
        centre = int(np.argmax(np.where(left, weight, -1.0)))
        left[centre] = False
        row = common[centre].astype(np.float64)
        together = np.argsort(-row, kind="stable")[:TOGETHER]
        together = together[row[together] > 0]
        if len(together) < LEAST_SUPPORT:
            continue
        transform = _fitted(source[:, together], target[:, together])
        supports = together
        for _ in range(ROUNDS):
            moved = transform[:, :3] @ source + transform[:, 3:]
            supports = np.flatnonzero(((moved - target) ** 2).sum(0) < (2 * tolerance) ** 2)
            if len(supports) < LEAST_SUPPORT:
                break
            transform = _fitted(source[:, supports], target[:, supports])
        left[supports] = False
        if len(supports) >= LEAST_SUPPORT:
            found.append(Proposal(transform, len(supports)))
    return sorted(found, key=lambda one: -one.support)


def _distances(points: Float64) -> Float64:
    """The distances (K, K) between points (3, K)."""
    square = np.zeros((points.shape[1], points.shape[1]))
    for row in points:
        square += (row[:, None] - row) ** 2
    return np.asarray(np.sqrt(square))


def _fitted(source: Float64, target: Float64) -> Float64:
    """The rigid transform (3, 4) of least squares."""
    p = np.vstack([source, np.ones(source.shape[1])])
    return fit(RIGID, np.eye(3, 4), Sums(p @ p.T, np.ascontiguousarray(p @ target.T), 0.0, 0.0))
