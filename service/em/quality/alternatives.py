"""Transforms of another kind that explain far more: a rotation for a translation, a mirror image, another scale.

If nearly all points of two clouds correspond, their principal axes do, up to the signs. Each choice of signs is tried,
with and without the ratio of the extents as a scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..kinds import TransformKind
from ..slices import pause
from .points import compare, log_odds
from .tuning import POINTS, VERDICT

Float64 = NDArray[np.float64]

# Clouds of more points and dimensions are not tried.
MOST_POINTS, MOST_DIMENSIONS = 5000, 3
# Extents of a ratio nearer to 1 are equal.
SAME_EXTENT = 0.03


def alternative(x: Float64, y: Float64, sigma: float, kind: TransformKind) -> str | None:
    """What a transform that `kind` does not allow explains; None if no such transform explains the clouds.

    `x` (D, N) is the moved source, `y` (D, M) the target.
    """
    D = len(x)
    if max(x.shape[1], y.shape[1]) > MOST_POINTS or not 2 <= D <= MOST_DIMENSIONS or kind.shears or kind.deforms:
        return None
    best, text = VERDICT.clear, None
    for moved, numbers, what in _candidates(x, y, kind):
        pause()
        odds = log_odds(compare(moved, y, sigma, POINTS.small, True), x.shape[1], numbers)
        if odds > best:
            best, text = odds, what
    return text


def _candidates(x: Float64, y: Float64, kind: TransformKind) -> Iterator[tuple[Float64, int, str]]:
    """The source (D, N) in other places, the numbers of the transform, and what it is."""
    D = len(x)
    p, q = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    (sizes, own), (others, its) = (np.linalg.eigh(part @ part.T / part.shape[1]) for part in (p, q))
    if min(float(sizes.sum()), float(others.sum())) <= 0:
        return
    ratio = math.sqrt(float(others.sum() / sizes.sum()))
    scales = [1.0] if abs(math.log(ratio)) < SAME_EXTENT or kind.scales else [1.0, ratio]
    for scale, signs in product(scales, product((1.0, -1.0), repeat=D)):
        turn = its * np.array(signs) @ own.T
        mirrored = float(np.linalg.det(turn)) < 0
        if scale == 1 and kind.rotates and not mirrored:
            continue  # what the registration itself has searched
        yield _placed(scale * turn @ p, y), D * (D + 1) // 2 + 1, _text(turn, scale, mirrored, kind)
    if scales[-1] != 1 and not kind.rotates:
        yield _placed(ratio * p, y), D + 1, f"a scale of {ratio:.3g}"


def _placed(p: Float64, y: Float64) -> Float64:
    return np.ascontiguousarray(p + y.mean(1, keepdims=True))


def _text(turn: Float64, scale: float, mirrored: bool, kind: TransformKind) -> str:
    words = ["a mirror image"] if mirrored else []
    D = len(turn)
    if not mirrored and not kind.rotates:
        cosine = (float(np.trace(turn)) - (D - 2)) / 2
        words.append(f"a rotation by {math.degrees(math.acos(min(max(cosine, -1.0), 1.0))):.0f}°")
    if scale != 1:
        words.append(f"a scale of {scale:.3g}")
    return " with ".join(words)
