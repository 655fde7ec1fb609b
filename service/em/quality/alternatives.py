"""Transforms of another kind that explain far more: a rotation for a translation, a mirror image, another scale.

If nearly all points of two clouds correspond, their principal axes do, up to the signs. Each choice of signs is tried,
with and without the ratio of the extents as a scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kinds import TransformKind
from ..slices import pause
from .points import compare, in_cells, log_odds, reached, spacing
from .tuning import POINTS, VERDICT

Float64 = NDArray[np.float64]

# The reason where a mirror image was registered.
MIRRORED = "a mirror image of the source explains far more"
# Clouds of more points and dimensions are not tried.
MOST_POINTS, MOST_DIMENSIONS = 5000, 3
# Extents of a ratio nearer to 1 are equal.
SAME_EXTENT = 0.03
# The share of points that must have a target within NEAR spacings, as a third of unrelated points have.
NEAR, LEAST_SHARE = 0.6, 0.4


class Candidate(NamedTuple):
    """A linear map of the centred source."""

    linear: Float64  # (D, D)
    scale: float
    numbers: int  # of the transform
    mirrored: bool


def alternative(x: Float64, y: Float64, dimension: int, sigma: float, kind: TransformKind) -> str | None:
    """What a transform that `kind` does not allow explains; None if no such transform explains the clouds.

    `x` (P, N) is the moved source, `y` (P, M) the target, P >= 3.
    """
    n, m, D = x.shape[1], y.shape[1], dimension
    if max(n, m) > MOST_POINTS or not 2 <= D <= MOST_DIMENSIONS or kind.shears or kind.deforms:
        return None
    target, count = in_cells(y), min(n, POINTS.first)
    reach = (NEAR * spacing(y, min(m, POINTS.first), target)) ** 2
    centre = y[:D].mean(1, keepdims=True)
    p, q = x[:D] - x[:D].mean(1, keepdims=True), y[:D] - centre
    best, text, at = VERDICT.clear, None, np.zeros_like(x)
    for one in _candidates(p, q, kind):
        at[:D] = one.linear @ p + centre
        if reached(at, count, target, reach) < LEAST_SHARE:
            continue
        pause()
        odds = log_odds(compare(at, y, in_cells(at), target, D, sigma, POINTS.first), n, one.numbers)
        if odds > best:
            best, text = odds, _text(one, kind)
    return text


def _candidates(p: Float64, q: Float64, kind: TransformKind) -> Iterator[Candidate]:
    """Maps of the centred source (D, N) to the centred target (D, M)."""
    D = len(p)
    (sizes, own), (others, its) = (np.linalg.eigh(part @ part.T / part.shape[1]) for part in (p, q))
    if min(float(sizes.sum()), float(others.sum())) <= 0:
        return
    ratio = math.sqrt(float(others.sum() / sizes.sum()))
    scales = [1.0] if abs(math.log(ratio)) < SAME_EXTENT or kind.scales else [1.0, ratio]
    parity = float(np.linalg.det(its @ own.T))
    for scale, signs in product(scales, product((1.0, -1.0), repeat=D)):
        mirrored = parity * math.prod(signs) < 0
        # The registration itself has searched the others.
        if scale != 1 or mirrored or not kind.rotates:
            yield Candidate(scale * (its * signs) @ own.T, scale, D * (D + 1) // 2 + 1, mirrored)
    if scales[-1] != 1 and not kind.rotates:
        yield Candidate(ratio * np.eye(D), ratio, D + 1, mirrored=False)


def _text(found: Candidate, kind: TransformKind) -> str:
    words = ["a mirror image"] if found.mirrored else []
    D = len(found.linear)
    if not found.mirrored and not kind.rotates:
        cosine = (float(np.trace(found.linear)) / found.scale - (D - 2)) / 2
        angle = math.degrees(math.acos(min(max(cosine, -1.0), 1.0)))
        if round(angle):
            words.append(f"a rotation by {angle:.0f}°")
    if found.scale != 1:
        words.append(f"a scale of {found.scale:.3g}")
    return " with ".join(words)
