"""How many pairs tell a pose from a coincidence.

A wrong pose may put some points next to targets by chance. The expected number of poses that put k of n points within a
distance of one of m targets (Moisan and Stival 2004), with the d pairs that determine a pose, is at most

    n^d m^d C(n, k) p^(k - d),   p = m v/V

with the volume v of a ball of that distance, and V that the targets are spread over.
"""

from __future__ import annotations

import math

# The distance, in σ, and the expected number of such poses below which a pose is no coincidence.
REACH, EXPECTED = 3.0, 1e-6


def needed_pairs(n: int, m: int, dimension: int, sigma: float, volume: float) -> int:
    """The fewest pairs that are no coincidence, for a rigid pose or a similarity in D = 2 or 3; n + 1 if none are.

    Args:
        n: source points.
        m: target points.
        dimension: D, which is also the number of pairs that determine a pose.
        sigma: the distance between partners, as σ.
        volume: V, in the unit of `sigma` to the power of D.
    """
    ball = (math.pi if dimension == 2 else 4 / 3 * math.pi) * (REACH * sigma) ** dimension
    chance = m * ball / volume if volume > 0 else 1.0
    if chance >= 1:
        return n + 1
    poses = dimension * (math.log(n) + math.log(m))
    for k in range(dimension + 1, n + 1):
        ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        if poses + ways + (k - dimension) * math.log(max(chance, 1e-300)) < math.log(EXPECTED):
            return k
    return n + 1
