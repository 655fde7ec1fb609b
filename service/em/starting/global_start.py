"""`init` auto for poses: a search without any assumption about the pose.

Congruent triangles come first: they require neither equal centroids nor complete clouds. If one of their poses stands
out, the search ends. Otherwise two more kinds of candidates join: the named poses (T = 0, equal centroids), and evenly
spread rotations about the centroids, of which a few steps at a wide kernel keep the best. Each candidate is annealed
on few points, the best again on more, and the highest score wins. The best pose that differs is the runner-up.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..cancellation import Poll
from ..coordinates import Frame
from ..jit import compiled
from ..kernel.extent import centre, clipped_deviation
from ..kernel.fitting import assign, fit, move, rms_distance, sums_of_rows
from ..kernel.single_precision import expect
from ..kernel.truncated import EStep, empty_e_step
from ..kinds import RIGID, SCALES
from .annealing import anneal, robust_bin
from .hypotheses import hypotheses
from .pyramid import Pyramid
from .starts import Annealing, PoseStart, by_score
from .tuning import SEARCH

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class Candidate(NamedTuple):
    """A pose to anneal."""

    name: str
    transform: Float64  # (D, D + 1)
    width: float  # first width


def find_start(points: Frame, pyramid: Pyramid, kind: int, poll: Poll) -> PoseStart:
    """The best start for a pose of this kind (RIGID or SIMILARITY, D = 2 or 3).

    `poll` is called between the parts of the search, and may raise.
    """
    D = points.dimension
    size = clipped_deviation(points.target[:D])
    scale = size / clipped_deviation(points.source[:D]) if SCALES[kind] else 1.0
    matched = hypotheses(points, pyramid, kind, poll)
    clear = matched.clear()
    best = matched.ranked()[: SEARCH.clear_kept if clear else SEARCH.triangles_kept]
    candidates = [Candidate("triangles", one.transform, one.width) for one in best]
    width = min(2 * pyramid.spacing_of(SEARCH.rotation_targets), size) or size
    if not clear or len(candidates) < SEARCH.clear_kept:
        candidates += [
            Candidate("identity", np.eye(D, D + 1), width),
            Candidate("centroid", _centred(points, np.eye(D), scale), width),
        ]
    if not clear:
        candidates += [Candidate("rotation", t, width) for t in _spread_rotations(points, pyramid, width, scale, poll)]
    found: list[Annealing] = []
    for one in candidates:
        poll()
        end = anneal(pyramid, kind, one.transform, one.width, points.floor, SEARCH.first_points, poll=poll)
        found.append(Annealing(one.name, end))
    return _choose(points, pyramid, kind, found, SEARCH.same_pose * size, poll)


def _choose(points: Frame, pyramid: Pyramid, kind: int, found: list[Annealing], same: float, poll: Poll) -> PoseStart:
    """The best pose after the best that differ are annealed again, on more points.

    Poses differ if they move the source apart by at least `same`, root mean square, in the target's unit.
    """
    sample = _sample(points)
    kept: list[Annealing] = []
    for one in by_score(found):
        alike = (rms_distance(sample, one.end.transform, other.end.transform) < same for other in kept)
        if len(kept) < SEARCH.annealed_again and not any(alike):
            kept.append(one)
    final: list[Annealing] = []
    for one in kept:
        poll()
        end = anneal(pyramid, kind, one.end.transform, SEARCH.again_width * one.end.sigma, points.floor, poll=poll)
        final.append(Annealing(one.name, end))
    (name, best), *rest = by_score(final)
    others = tuple(
        end.transform
        for _, end in rest
        if end.score > -math.inf and rms_distance(sample, end.transform, best.transform) > same
    )
    return PoseStart(best.transform, best.sigma, best.inliers, name, best.path, others)


def _sample(points: Frame) -> Float64:
    """A strided sample of the source, which suffices for the distance between two poses."""
    return points.source[:, :: max(1, points.source.shape[1] // SEARCH.compared_points)]


def _centred(points: Frame, turn: Float64, scale: float) -> Float64:
    """The transform (D, D + 1) that rotates by `turn` (D, D) and scales about the centroids."""
    D = points.dimension
    p, q = centre(points.source[:D]), centre(points.target[:D])
    out = np.empty((D, D + 1))
    out[:, :D] = scale * turn
    out[:, D] = q - scale * turn @ p
    return out


def rotations(dimension: int, count: int) -> Float64:
    """`count` rotations (count, D, D), evenly spaced: D = 2 or 3.

    In the plane they are at equal angles, in space on a super-Fibonacci spiral (Alexa 2022).
    """
    if dimension == 2:
        angle = 2 * math.pi * np.arange(count) / count
        c, s = np.cos(angle), np.sin(angle)
        return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)
    at = np.arange(count) + 0.5
    inner, outer = np.sqrt(at / count), np.sqrt(1 - at / count)
    a, b = 2 * math.pi * at / math.sqrt(2), 2 * math.pi * at / 1.533751168755204288118041
    x, y, z, w = inner * np.sin(a), inner * np.cos(a), outer * np.sin(b), outer * np.cos(b)
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
        ],
        -2,
    )


def _spread_rotations(points: Frame, pyramid: Pyramid, width: float, scale: float, poll: Poll) -> list[Float64]:
    """The best of many rotations about the centroids, (D, D + 1) each, after a few steps at one width and one scale."""
    D = points.dimension
    turns = rotations(D, SEARCH.rotations_in_plane if D == 2 else SEARCH.rotations_in_space)
    p, q = centre(points.source[:D]), centre(points.target[:D])
    starts = np.concatenate([turns, (q - scale * turns @ p)[:, :, None]], 2)
    source = pyramid.source(SEARCH.rotation_source) * scale
    ends, scores = np.empty_like(starts), np.empty(len(starts))
    target = pyramid.target(SEARCH.rotation_targets).astype(np.float32)
    found = empty_e_step(len(source), source.shape[1])
    for begin in range(0, len(starts), SEARCH.rotations_together):
        poll()
        some = slice(begin, begin + SEARCH.rotations_together)
        _judge(starts[some], source, target, D, width, robust_bin(D), found, ends[some], scores[some])
    ends[:, :, :D] *= scale
    sample = _sample(points)
    kept: list[Float64] = []
    # Scores have single precision. Rounding must not decide between equal rotations.
    scores += SEARCH.upright * np.trace(turns, axis1=1, axis2=2)
    for k in np.argsort(-scores, kind="stable"):
        if len(kept) == SEARCH.rotations_kept:
            break
        if all(rms_distance(sample, ends[k], other) > 0.5 * width for other in kept):
            kept.append(ends[k])
    return kept


@compiled
def _judge(
    starts: Float64,
    source: Float64,
    target: Float32,
    dimension: int,
    width: float,
    bin_weight: float,
    found: EStep,
    ends: Float64,
    scores: Float64,
) -> None:
    """Take three robust steps from each of `starts` (K, D, D + 1), into `ends`.

    `scores` (K,) receives the robust evidence at the last E-step. This is the step of a `loop.Loop`, taken three times
    without a test of convergence.
    """
    moved = np.zeros_like(source)
    for k in range(len(starts)):
        transform = starts[k].copy()
        for _ in range(3):
            move(transform, source, moved)
            expect(moved, target, 0.5 / width**2, bin_weight, found)
            sums = sums_of_rows(source, dimension, found)
            scores[k] = sums.evidence
            if sums.within[dimension, dimension] > dimension + 1:
                transform = fit(RIGID, transform, sums)
        assign(transform, ends[k])
