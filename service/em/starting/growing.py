"""Refinement of hypotheses: first on the points around the triangle, then on more and more points.

A pose from three noisy points is accurate near them and inaccurate elsewhere. Each round matches the points within its
reach with their nearest targets, weighs every pair by the probability that it is not due to chance, and fits the pose
to the pairs; the next round reaches farther. The score is the log-ratio of all test points, at the best width of the
ladder.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..jit import compiled
from ..kernel.fitting import rotation
from ..kinds import SCALES
from .landscape import MISS, Landscape, next_to
from .tuning import GROWING

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


@compiled
def _matched(
    transform: Float64, tests: Float64, some: Int64, place: Landscape, at: Float64, square: Float64, who: Int64
) -> None:
    """The positions `at` of `some` of the tests, the nearest target `who`, and its squared distance; inf for none."""
    for t in range(len(some)):
        i = some[t]
        for d in range(3):
            at[t, d] = (
                transform[d, 0] * tests[i, 0]
                + transform[d, 1] * tests[i, 1]
                + transform[d, 2] * tests[i, 2]
                + transform[d, 3]
            )
        j = next_to(place, at[t, 0], at[t, 1], at[t, 2])
        who[t] = j
        square[t] = np.inf
        if j >= 0:
            square[t] = 0.0
            for d in range(3):
                square[t] += (at[t, d] - place.points[j, d]) ** 2


@compiled
def _verdict(place: Landscape, count: int, square: Float64, who: Int64) -> tuple[float, int]:
    """The highest log-ratio over the widths of the ladder, and the rung of that width."""
    best, rung = -np.inf, 0
    for k in range(len(place.precision)):
        total = 0.0
        for t in range(count):
            gain = MISS
            if who[t] >= 0:
                gain = max(gain, place.gain[k, who[t]] - square[t] * place.precision[k])
            total += gain
        if total > best:
            best, rung = total, k
    return best, rung


@compiled
def _fitted(
    kind: int,
    dimension: int,
    tests: Float64,
    some: Int64,
    place: Landscape,
    rung: int,
    square: Float64,
    who: Int64,
    transform: Float64,
) -> None:
    """Fit `transform` (3, 4) to the pairs, each weighted by the probability that it is a true match."""
    total = 0.0
    p, q = np.zeros(3), np.zeros(3)
    weight = np.zeros(len(some))
    for t in range(len(some)):
        if who[t] < 0:
            continue
        odds = place.gain[rung, who[t]] - square[t] * place.precision[rung] - MISS
        if odds < GROWING.least_odds:
            continue
        weight[t] = 1.0 / (1.0 + math.exp(-odds))
        total += weight[t]
        for d in range(3):
            p[d] += weight[t] * tests[some[t], d]
            q[d] += weight[t] * place.points[who[t], d]
    if total < dimension + 1:
        return
    for d in range(3):
        p[d] /= total
        q[d] /= total
    cross = np.zeros((dimension, dimension))
    variance = 0.0
    for t in range(len(some)):
        if weight[t] > 0:
            for d in range(dimension):
                off = tests[some[t], d] - p[d]
                variance += weight[t] * off * off
                for e in range(dimension):
                    cross[e, d] += weight[t] * off * (place.points[who[t], e] - q[e])
    if not variance > 0:
        return
    turn = rotation(cross)
    scale = 1.0
    if SCALES[kind]:
        scale = 0.0
        for d in range(dimension):
            for e in range(dimension):
                scale += turn[d, e] * cross[d, e] / variance
    for d in range(dimension):
        transform[d, 3] = q[d]
        for e in range(dimension):
            transform[d, e] = scale * turn[d, e]
            transform[d, 3] -= transform[d, e] * p[e]


@compiled
def grow(
    kind: int,
    dimension: int,
    tests: Float64,
    around: Int64,
    everywhere: Int64,
    place: Landscape,
    rung: int,
    transforms: Float64,
    scores: Float64,
    rungs: Int64,
) -> None:
    """Refine poses in place.

    Args:
        kind: RIGID or SIMILARITY.
        dimension: D.
        tests: (n, 3) points of the source.
        around: those next to the triangle that the poses came from, from near to far.
        everywhere: those that give the verdict.
        place: the target.
        rung: of the ladder to start with.
        transforms: (K, 3, 4) the poses.
        scores: (K,) their log-ratios, -inf for none; receives those of all tests.
        rungs: (K,) receives the rung of the ladder at which a score is reached.
    """
    size = max(len(around), len(everywhere))
    at, square, who = np.empty((size, 3)), np.empty(size), np.empty(size, np.int64)
    for k in range(len(scores)):
        if scores[k] == -np.inf:
            continue
        transform = transforms[k]
        best, width = -np.inf, rung
        alive = True
        for stage in range(len(GROWING.reaches)):
            some = around[: min(GROWING.reaches[stage], len(around))]
            if not alive or len(some) < dimension + 2:
                break
            for _ in range(GROWING.rounds):
                _matched(transform, tests, some, place, at, square, who)
                _fitted(kind, dimension, tests, some, place, width, square, who, transform)
            _matched(transform, tests, some, place, at, square, who)
            best, width = _verdict(place, len(some), square, who)
            alive = best > GROWING.worth * len(some)
        if not alive:
            scores[k] = -np.inf
            continue
        for _ in range(GROWING.last_rounds):
            _matched(transform, tests, everywhere, place, at, square, who)
            best, width = _verdict(place, len(everywhere), square, who)
            _fitted(kind, dimension, tests, everywhere, place, width, square, who, transform)
        _matched(transform, tests, everywhere, place, at, square, who)
        scores[k], rungs[k] = _verdict(place, len(everywhere), square, who)
