"""Poses against coincidences: how many poses put as many points next to targets by chance.

A wrong pose may put some points next to targets. The expected number of poses that put k of n points within a distance
ε of different targets among m, each pose determined by d of the k pairs, is about

    C(n, k) C(k, d) m!/(m - d)! p^(k - d) (8ε/L)^s,   p = m v/V

with the volume v of a ball of radius ε, and the volume V = L^D that the targets are spread over (Moisan and Stival
2004). d pairs overdetermine a pose by s equations: distances between them agree to 2ε, which two random distances in a
box do with a probability of at most 8ε/L.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Float64 = NDArray[np.float64]

# The distance, in σ, within which a point has a partner, and the expected number of such poses below which a pose is no
# coincidence.
REACH, EXPECTED = 3.0, 1e-3


class Coincidences(NamedTuple):
    """The logarithm of the expected number of poses is constant[k] + power[k] log ε, for ε below `widest`."""

    constant: Float64  # (n + 1,) inf for a k that determines a pose without any surplus
    power: Float64  # (n + 1,)
    widest: float  # ε from which on chance puts a target next to every point


def coincidences(n: int, m: int, dimension: int, volume: float, *, scales: bool) -> Coincidences:
    """The terms for n source and m target points, and a rigid pose or one that `scales`, in D = 2 or 3; d is D.

    `volume` is V, in the unit of ε to the power of D.
    """
    D = dimension
    ball = math.pi if D == 2 else 4 / 3 * math.pi
    constant, power = np.full(n + 1, math.inf), np.zeros(n + 1)
    surplus = D * (D - 1) // 2 - int(scales)
    if m < D or not volume > 0:
        return Coincidences(constant, power, 0.0)
    length = volume ** (1 / D)
    k = np.arange(D + 1, n + 1)
    subsets = math.lgamma(n + 1) - gammaln(n - k + 1) - gammaln(k - D + 1) - math.lgamma(D + 1)
    partners = math.lgamma(m + 1) - math.lgamma(m - D + 1)
    constant[k] = subsets + partners + (k - D) * math.log(m * ball / volume) + surplus * math.log(8 / length)
    power[k] = D * (k - D) + surplus
    return Coincidences(constant, power, min((volume / (m * ball)) ** (1 / D), length / 8))


def needed_pairs(n: int, m: int, dimension: int, sigma: float, volume: float, *, scales: bool) -> int:
    """The fewest pairs that are no coincidence, for a rigid pose or a similarity in D = 2 or 3; n + 1 if none are.

    Args:
        n: source points.
        m: target points.
        dimension: D, which is also the number of pairs that determine a pose.
        sigma: the distance between partners, as σ.
        volume: V, in the unit of `sigma` to the power of D.
        scales: whether the pose has a scale.
    """
    found, reach = coincidences(n, m, dimension, volume, scales=scales), REACH * sigma
    if reach >= found.widest:
        return n + 1
    rare = found.constant + found.power * math.log(max(reach, 1e-100)) < math.log(EXPECTED)
    return int(rare.argmax()) if rare.any() else n + 1
