"""The order of candidate poses: by score, and of equal ones by the pose itself.

The poses of a symmetric shape have equal scores, except for rounding. Rounding, and the order in which a search finds
them, must not decide which of them comes first: the one that turns least does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# Difference of two numbers of a pose, of order one in the frame's coordinates, below which they are equal.
EQUAL = 1e-5


def ranked(scores: Sequence[float], transforms: Sequence[Float64], tie: float) -> Iterator[int]:
    """The indices of poses, from the best to the worst.

    Args:
        scores: larger is better.
        transforms: (D, D + 1) each.
        tie: difference of two scores up to which they are equal.
    """
    left = list(range(len(scores)))
    while left:
        best = max(scores[k] for k in left)
        first, *others = (k for k in left if scores[k] >= best - tie)
        for k in others:
            if _precedes(transforms[k], transforms[first]):
                first = k
        left.remove(first)
        yield first


def _precedes(one: Float64, other: Float64) -> bool:
    """Whether `one` turns less than `other` or, if both turn alike, its first different number is larger."""
    D = len(one)
    for a, b in zip((np.trace(one[:, :D]), *one.ravel()), (np.trace(other[:, :D]), *other.ravel()), strict=True):
        if abs(a - b) > EQUAL:
            return bool(a > b)
    return False
