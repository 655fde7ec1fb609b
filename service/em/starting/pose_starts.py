"""Where a pose starts from: by name, given, or found."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..batched.padding import pack
from ..batched.search import search
from ..coordinates import Frame, Transform
from ..kernel.fitting import AFFINE, KINDS, RIGID, SIMILARITY, TRANSLATION, rms_distance
from ..kernel.spacing import spacing_between
from ..kernel.truncated import empty_e_step
from ..problem import Pose, Problem
from .annealing import SOURCE_POINTS, Annealed, Pyramid, anneal, robust_bin
from .descent import MOST_STEPS, descend
from .global_start import find_start
from .moments import orthogonal_maps

Float64 = NDArray[np.float64]

# The translation search holds N x M differences; so many points of either cloud are enough for it.
THINNED = 2048
# In a frame's units, in which half of the points are within 2.
STRAY = 16.0
# A start by name is looked at from near; where that leaves so many points without a partner, from afar as well.
POOR = 0.8
# A translation that is so many widths elsewhere, and so little worse for each point, is worth a second look.
ELSEWHERE, RIVAL_SCORE = 3.0, 0.2
# So many spacings is the noise of a match that tells the targets apart, and the width of a start that is right already.
SHARP = 0.4
NARROW = (0.7, 0.3)
# With so many partners, at so few spacings from them, the quick way's end is good enough.
CONTENT = (POOR, SHARP), (0.96, 0.6)
# Widths that a start which is trusted anneals from, in spacings of a few hundred targets.
NEAR = 2.5
FEW = 500
# Clouds of so many points go down the quick way first, with so many of their targets as long as the width is wide.
QUICK = 25_000
COARSE_POINTS = 1000
# With a scale it explains so many targets.
EXPLAINED = 6000


class PoseStart(NamedTuple):
    """Where to climb from."""

    transform: Float64  # (D, D + 1)
    sigma: float
    inliers: float
    name: str
    path: list[Float64]
    runner_up: Float64 | None = None


def pose_start(problem: Problem, points: Frame, poll: Callable[[], object]) -> PoseStart:
    """The start that `problem.init` asks for, annealed. `poll` is called now and then and may raise."""
    kind = KINDS.get(problem.transform, RIGID)  # the global part of a nonrigid transform
    # Points far outside of the cloud are no help in finding it.
    points = points._replace(source=_bulk(points.source), target=_bulk(points.target))
    if problem.init == "auto":
        return _auto(problem, points, Pyramid(points), kind, poll)
    transform = named(problem, points) if isinstance(problem.init, str) else given(problem, points)
    return _local(points, kind, transform, start_name(problem), last_width(problem, points))


def _bulk(cloud: Float64) -> Float64:
    """The points (P, n) that are not `STRAY` times as far out as half of the cloud is."""
    distance = np.abs(cloud)
    return cloud if distance.max() <= STRAY else np.ascontiguousarray(cloud[:, distance.max(0) <= STRAY])


def start_name(problem: Problem) -> str:
    """What the answer calls a start that is not searched for."""
    return problem.init if isinstance(problem.init, str) else "given"


def last_width(problem: Problem, points: Frame) -> float:
    """The least width that annealing goes down to."""
    return points.floor if problem.sigma is None else max(problem.sigma / points.target_unit, points.floor)


def named(problem: Problem, points: Frame) -> Float64:
    """The transform (D, D + 1) of the starts "identity" and "centroid"."""
    D = points.dimension
    if problem.init == "identity":
        return points.from_caller(Transform(np.eye(D), np.zeros(D)))
    out = np.eye(D, D + 1)
    scale = 1.0
    if problem.transform in {"similarity", "affine"}:
        scale = _spread(points.target[:D]) / _spread(points.source[:D])
    out[:, :D] *= scale
    out[:, D] = points.target[:D].mean(1) - scale * points.source[:D].mean(1)
    return out


def given(problem: Problem, points: Frame) -> Float64:
    """The transform (D, D + 1) that the problem names itself."""
    init = problem.init
    if isinstance(init, Pose):
        return points.from_caller(Transform(init.linear.numpy(), init.translation.numpy()))
    if not isinstance(init, Tensor):
        raise TypeError(f"{init!r} is no transform")
    return points.from_caller(Transform(np.eye(points.dimension), init.numpy()))


def _local(points: Frame, kind: int, transform: Float64, name: str, last: float) -> PoseStart:
    """Annealed from near; and from afar too where that matches badly."""
    if kind < SIMILARITY and max(points.source.shape[1], points.target.shape[1]) <= QUICK:
        quick, spacing = _quick(points, kind, transform, last)
        # A match that stays blurred may be one of outlines alone, unless hardly any point is left out.
        if any(quick.inliers >= share and quick.sigma < width * spacing for share, width in CONTENT):
            return quick._replace(name=name)
    pyramid = Pyramid(points)
    near = max(NEAR * pyramid.spacing_of(min(FEW, points.target.shape[1])), last)
    wide = max(_spread(points.target[: points.dimension]), near)
    if kind >= SIMILARITY:
        return _scaled(points, pyramid, kind, transform, near, wide, last)._replace(name=name)
    # Where the clouds overlap in part, a wide kernel draws away from a pose that was right.
    widths = [near, *(share * pyramid.spacing for share in NARROW)]
    found = [anneal(pyramid, kind, transform, max(width, last), last) for width in widths]
    if max(one.inliers for one in found) < POOR:
        found.append(anneal(pyramid, kind, transform, wide, last))
    best = max(found, key=lambda one: one.score)
    return PoseStart(best.transform, best.sigma, best.inliers, name, best.path)


def _scaled(
    points: Frame, pyramid: Pyramid, kind: int, transform: Float64, near: float, wide: float, last: float
) -> PoseStart:
    """From where it is, and from where a shift alone would take it; the better one by how it explains the source."""
    shifted = anneal(pyramid, TRANSLATION, transform, wide, last)
    begins = (transform, near), (shifted.transform, min(near, max(4 * shifted.sigma, last)))
    found = [_quick(points, kind, begin, last, width)[0] for begin, width in begins]
    scores = [
        anneal(pyramid, TRANSLATION, end.transform, max(2 * end.sigma, last), last).score
        if np.linalg.det(end.transform[:, : points.dimension]) > 0
        else -math.inf
        for end in found
    ]
    return found[0] if scores[0] >= scores[1] else found[1]


def _quick(
    points: Frame, kind: int, transform: Float64, last: float, first: float | None = None
) -> tuple[PoseStart, float]:
    """Down the quick way, from the width `first`, or from near; and the spacing of the targets."""
    D = points.dimension
    # The cloud that is explained may be thinned, the one that explains it hardly.
    counts = (EXPLAINED, SOURCE_POINTS) if kind >= SIMILARITY else (SOURCE_POINTS, QUICK)
    source, target = (_some(cloud, count) for cloud, count in zip((points.source, points.target), counts, strict=True))
    coarse = np.ascontiguousarray(target[:, :COARSE_POINTS])
    spacing = spacing_between(target, D)
    coarse_spacing = spacing if coarse.shape[1] == target.shape[1] else spacing_between(coarse, D)
    few = coarse_spacing if coarse.shape[1] <= FEW else spacing_between(np.ascontiguousarray(coarse[:, :FEW]), D)
    path = np.empty((MOST_STEPS, D, D + 1))
    found = empty_e_step(len(source), max(source.shape[1], target.shape[1]))
    width, inliers, steps = descend(
        source,
        target,
        coarse,
        D,
        kind,
        transform,
        max(NEAR * few if first is None else first, last),
        last,
        spacing,
        coarse_spacing,
        robust_bin(D),
        found,
        path,
    )
    end = path[steps - 1].copy() if steps else transform
    return PoseStart(end, width, inliers, "", [transform, *path[:steps]]), spacing


def _some(cloud: Float64, count: int) -> Float64:
    """At most `count` points of a cloud (P, N), in an order that is random and always the same."""
    return np.take(cloud, _shuffled(cloud.shape[1], count), 1)


@lru_cache(32)
def _shuffled(n: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng(1).permutation(n)[:count].copy()


def _auto(problem: Problem, points: Frame, pyramid: Pyramid, kind: int, poll: Callable[[], object]) -> PoseStart:
    last = last_width(problem, points)
    if kind == TRANSLATION:
        return _translation(problem, points, pyramid, last)
    if kind == AFFINE:
        return _affine(points, pyramid, last, poll)
    found = find_start(points, pyramid, kind, poll)
    sigma = max(found.sigma, last)
    return PoseStart(found.transform, sigma, found.inliers, found.name, found.path, found.runner_up)


def _translation(problem: Problem, points: Frame, pyramid: Pyramid, last: float) -> PoseStart:
    """The centroids, no shift at all, and what the search over differences finds; each annealed, the best wins.

    The next best elsewhere is the runner-up, where it explains the source about as well.
    """
    D = points.dimension
    few = pyramid.spacing_of(min(FEW, points.target.shape[1]))
    centroid = named(problem._replace(init="centroid"), points)
    identity = named(problem._replace(init="identity"), points)
    starts = [
        ("centroid", centroid, NEAR * few),
        ("identity", identity, NEAR * few),
        ("anneal", centroid, _spread(points.target[:D])),
        *(
            ("vote", transform, NEAR * few)
            for transform in _voted(points, pyramid, last if problem.sigma is not None else 0.0)
        ),
    ]
    found = [
        (name, anneal(pyramid, TRANSLATION, transform, max(width, last), last)) for name, transform, width in starts
    ]
    found.sort(key=lambda one: -one[1].score)
    best = _best(found)
    for _, other in found[1:]:
        shift = rms_distance(points.source, other.transform, best.transform)
        if shift > ELSEWHERE * max(other.sigma, best.sigma):
            close = other.score > found[0][1].score - RIVAL_SCORE
            return best._replace(runner_up=other.transform) if close else best
    return best


def _best(found: list[tuple[str, Annealed]]) -> PoseStart:
    name, best = max(found, key=lambda pair: pair[1].score)
    return PoseStart(best.transform, best.sigma, best.inliers, name, best.path)


def _voted(points: Frame, pyramid: Pyramid, sigma: float) -> list[Float64]:
    """The winner of the dense search for a translation, on a subset of the points, and its rival if it has one."""
    D = points.dimension
    some = Problem(
        torch.from_numpy(np.ascontiguousarray(pyramid.source(THINNED)[:D].T)),
        torch.from_numpy(np.ascontiguousarray(pyramid.target(THINNED)[:D].T)),
    )
    group = pack([some])
    found = search(group, torch.tensor([sigma], dtype=torch.float64))
    out: list[Float64] = []
    for shift in [found.translation, *(rival[None] for rival in found.rival if rival is not None)]:
        transform = np.eye(D, D + 1)
        transform[:, D] = group.to_original(shift)[0].numpy()
        out.append(transform)
    return out


def _affine(points: Frame, pyramid: Pyramid, last: float, poll: Callable[[], object]) -> PoseStart:
    """From the best similarity, and from the best rotation between the clouds made round; beyond space, by moments.

    A cloud is made round by its covariance's inverse root; an affine map between two clouds is then a rotation, up to
    the noise (and to what is missing of either).
    """
    D = points.dimension
    round_source, round_target = _whitening(points.source[:D]), _whitening(points.target[:D])
    p, q = points.source[:D].mean(1), points.target[:D].mean(1)
    back = np.linalg.inv(round_target)
    x, y = round_source @ (points.source[:D] - p[:, None]), round_target @ (points.target[:D] - q[:, None])
    few = pyramid.spacing_of(min(FEW, points.target.shape[1]))
    widths = NEAR * few, NARROW[-1] * pyramid.spacing
    if D not in {2, 3}:
        starts = [("centroid", np.hstack([np.eye(D), (q - p)[:, None]]), _spread(points.target[:D]))]
        for Q in orthogonal_maps(x, y):
            linear = back @ Q @ round_source
            start = np.hstack([linear, (q - linear @ p)[:, None]])
            starts += [("whitened", start, width) for width in widths]
        return _best(_annealed(pyramid, starts, last, poll))
    similar = find_start(points, pyramid, SIMILARITY, poll)
    starts = [(similar.name, similar.transform, 4 * similar.sigma)]
    white = points._replace(source=_padded(x), target=_padded(y))
    turned = find_start(white, Pyramid(white), RIGID, poll)
    linear = back @ turned.transform[:, :D] @ round_source
    shift = back @ turned.transform[:, D] + q - linear @ p
    starts += [("whitened", np.hstack([linear, shift[:, None]]), width) for width in widths]
    return _best(_annealed(pyramid, starts, last, poll))


def _annealed(
    pyramid: Pyramid, starts: list[tuple[str, Float64, float]], last: float, poll: Callable[[], object]
) -> list[tuple[str, Annealed]]:
    """Each affine start by its name, annealed from its width."""
    found: list[tuple[str, Annealed]] = []
    for name, transform, width in starts:
        poll()
        found.append((name, anneal(pyramid, AFFINE, transform, max(width, last), last)))
    return found


def _whitening(points: Float64) -> Float64:
    """The symmetric inverse root (D, D) of the cloud's covariance."""
    values, vectors = np.linalg.eigh(np.cov(points, ddof=0).reshape(len(points), len(points)))
    values = np.maximum(values, 1e-12 * values.max())
    return np.asarray(vectors / np.sqrt(values) @ vectors.T)


def _padded(points: Float64) -> Float64:
    out = np.zeros((max(len(points), 3), points.shape[1]))
    out[: len(points)] = points
    return out


def _spread(points: Float64) -> float:
    """Standard deviation in each coordinate, about the mean."""
    return math.sqrt(float(points.var(1).mean())) or 1.0
