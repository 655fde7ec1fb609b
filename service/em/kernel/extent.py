"""The extent of a cloud, robust to a few distant points."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# The share of points at either end of an axis that may be distant from the others. From ONE_STRAY points on, at least
# one may be.
TAIL = 0.02
ONE_STRAY = 8
# Approximate size of the strided sample that is sorted.
SAMPLE = 4096


def box(points: Float64) -> tuple[Float64, Float64]:
    """The corners (P,) of the box of `points` (P, n), without points farther out than the others' full extent."""
    ordered = np.sort(points[:, :: max(1, points.shape[1] // SAMPLE)], axis=1)
    n = ordered.shape[1]
    tail = max(int(TAIL * n), int(n >= ONE_STRAY))
    low, high = ordered[:, tail], ordered[:, n - 1 - tail]
    margin = float((high - low).max())
    return np.maximum(low - margin, points.min(1)), np.minimum(high + margin, points.max(1))


def centre(points: Float64) -> Float64:
    """The mean (P,) of `points` (P, n), clipped to their `box`."""
    low, high = box(points)
    return np.asarray(np.clip(points.T, low, high).mean(0))


def clipped_deviation(points: Float64) -> float:
    """The standard deviation of `points` (P, n), clipped to their `box`, over all coordinates; 1 if it is 0."""
    low, high = box(points)
    return math.sqrt(float(np.clip(points.T, low, high).var(0).mean())) or 1.0
