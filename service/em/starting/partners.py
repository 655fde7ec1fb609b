"""The partners of a few points under a pose, one to one, and how likely they are a coincidence."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.fitting import Sums, fit
from .tuning import EXHAUSTIVE

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class Clouds(NamedTuple):
    """The points, and by what a pose is judged. The targets are sorted by their first coordinate."""

    source: Float64  # (n, 3)
    target: Float64  # (m, 3)
    dimension: int
    reach: float  # largest distance between partners
    floor: float  # distance below which partners coincide
    constant: Float64  # (n + 1,) see `Coincidences`
    power: Float64  # (n + 1,)


class Judged(NamedTuple):
    """A pose compared with all points."""

    transform: Float64  # (D, D + 1)
    value: float  # logarithm of the expected number of poses that are as good by chance
    pairs: int
    sigma: float  # of the distances between partners


def judge(clouds: Clouds, transform: Float64) -> Judged:
    """How likely the partners under the pose `transform` (D, D + 1) are a coincidence, by as many as are least so."""
    square, partner = np.empty(len(clouds.source)), np.empty(len(clouds.source), np.int64)
    hits = match(clouds, _in_space(transform), square, partner)
    value, pairs, total = coincidence(clouds, square, partner, hits)
    sigma = math.sqrt(total / max(pairs * clouds.dimension, 1))
    return Judged(transform, value, pairs, sigma)


def polished(clouds: Clouds, kind: int, transform: Float64) -> Float64:
    """The pose (D, D + 1), fitted to its partners while that makes it less of a coincidence."""
    best = judge(clouds, transform)
    for _ in range(EXHAUSTIVE.fits):
        at, partner = _pairs(clouds, best)
        if len(at) <= clouds.dimension:
            break
        p = np.vstack([at.T[: clouds.dimension], np.ones(len(at))])
        q = partner.T[: clouds.dimension]
        fitted = judge(clouds, fit(kind, best.transform, Sums(p @ p.T, p @ q.T, 0.0, 0.0)))
        if fitted.value >= best.value:
            break
        best = fitted
    return best.transform


def _pairs(clouds: Clouds, pose: Judged) -> tuple[Float64, Float64]:
    """The points (k, 3) of the source with a partner, the closest `pose.pairs` ones, and the partners (k, 3)."""
    square, partner = np.empty(len(clouds.source)), np.empty(len(clouds.source), np.int64)
    match(clouds, _in_space(pose.transform), square, partner)
    some = np.flatnonzero(partner >= 0)
    some = some[np.argsort(square[some], kind="stable")][: pose.pairs]
    return clouds.source[some], clouds.target[partner[some]]


def _in_space(transform: Float64) -> Float64:
    D = len(transform)
    out = np.eye(3, 4)
    out[:D, :D], out[:D, 3] = transform[:, :D], transform[:, D]
    return out


@compiled
def match(clouds: Clouds, transform: Float64, square: Float64, partner: Int64) -> int:
    """The nearest target of each point within reach, and its squared distance; the number of points that have one.

    A target that is nearest to several points belongs to the closest of them, and the others have none. It ends early,
    with 0, once too few points can have a partner.
    """
    source, target, reach = clouds.source, clouds.target, clouds.reach
    owner = np.full(len(target), -1)
    hits, n = 0, len(source)
    for i in range(n):
        partner[i] = -1
        if hits + n - i <= clouds.dimension:
            return 0
        x, y, z = transform[0, 3], transform[1, 3], transform[2, 3]
        for e in range(3):
            x += transform[0, e] * source[i, e]
            y += transform[1, e] * source[i, e]
            z += transform[2, e] * source[i, e]
        first, last = 0, len(target)
        while first < last:
            middle = (first + last) // 2
            if target[middle, 0] < x - reach:
                first = middle + 1
            else:
                last = middle
        least, nearest = reach * reach, -1
        while first < len(target) and target[first, 0] <= x + reach:
            off = (target[first, 0] - x) ** 2 + (target[first, 1] - y) ** 2 + (target[first, 2] - z) ** 2
            if off < least:
                least, nearest = off, first
            first += 1
        if nearest < 0:
            continue
        other = owner[nearest]
        if other >= 0 and square[other] <= least:
            continue
        if other >= 0:
            partner[other] = -1
            hits -= 1
        owner[nearest], partner[i], square[i] = i, nearest, least
        hits += 1
    return hits


@compiled
def coincidence(clouds: Clouds, square: Float64, partner: Int64, hits: int) -> tuple[float, int, float]:
    """The least logarithm of the expected number of coincidences, the number of pairs, and their squared distances."""
    best, pairs, total = np.inf, 0, 0.0
    if hits <= clouds.dimension:
        return best, pairs, total
    rising = np.empty(hits)
    count = 0
    for i in range(len(partner)):
        if partner[i] >= 0:
            k = count
            while k > 0 and rising[k - 1] > square[i]:
                rising[k] = rising[k - 1]
                k -= 1
            rising[k] = square[i]
            count += 1
    so_far = 0.0
    for k in range(count):
        so_far += rising[k]
        if k >= clouds.dimension:
            off = max(math.sqrt(rising[k]), clouds.floor)
            value = clouds.constant[k + 1] + clouds.power[k + 1] * math.log(max(off, 1e-100))
            if value < best:
                best, pairs, total = value, k + 1, so_far
    return best, pairs, total
