"""The evidence that some points were drawn from one density rather than from another."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled

Float64 = NDArray[np.float64]

# Rounds of the estimate of w, and its bounds.
ROUNDS, LEAST, MOST = 16, 0.01, 0.99
# The largest log-ratio, below the overflow of its exponential.
LARGEST = 500.0


@compiled
def profile(ratios: Float64, terms: Float64) -> tuple[float, float, float]:
    """max_w mean log((1 - w) exp(r) + w) by EM, the standard deviation of its `terms` (n,), and w.

    `ratios` (n,) are r, the logarithms of the ratios of the two densities. The terms are written.
    """
    count, share = len(ratios), 0.3
    for a in range(count):
        terms[a] = math.exp(min(ratios[a], LARGEST))
    for _ in range(ROUNDS):
        total = 0.0
        for a in range(count):
            total += share / ((1 - share) * terms[a] + share)
        share = min(max(total / count, LEAST), MOST)
    evidence, square = 0.0, 0.0
    for a in range(count):
        terms[a] = math.log((1 - share) * terms[a] + share)
        evidence += terms[a]
        square += terms[a] ** 2
    evidence /= count
    return evidence, math.sqrt(max(square / count - evidence**2, 0.0)), share
