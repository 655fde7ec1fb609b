"""Starts near a pose that is named or given. If annealing from near matches badly, it is repeated from afar."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .. import slices
from ..cancellation import Poll
from ..coordinates import Frame
from ..kernel.spacing import spacing_between
from ..kernel.truncated import empty_e_step
from ..kinds import SCALES, TRANSLATION
from .annealing import Annealed, anneal, robust_bin
from .descent import descend, first_descent
from .named import deviation
from .pyramid import Pyramid
from .starts import PoseStart
from .tuning import ANNEALING, DESCENT, NEAR

Float64 = NDArray[np.float64]


def near_start(points: Frame, kind: int, transform: Float64, name: str, last: float, poll: Poll) -> PoseStart:
    """The start near `transform` (D, D + 1); `kind` is a code, `last` the least width in the frame.

    `poll` is called before each annealing, and may raise.
    """
    poll()
    small = max(points.source.shape[1], points.target.shape[1]) <= NEAR.descent_points
    if not SCALES[kind] and small:
        quick, spacing = _descended(points, kind, transform, last)
        # A blurred match may be one of outlines only, unless nearly all points have a partner.
        if any(quick.inliers >= share and quick.sigma < width * spacing for share, width in NEAR.descent_suffices):
            return quick._replace(name=name)
    pyramid = Pyramid(points)
    first = max(first_width(points, pyramid), last)
    wide = max(deviation(points.target[: points.dimension]), first)
    if SCALES[kind]:
        return _scaled(points, pyramid, kind, transform, first, wide, last, poll)._replace(name=name)
    # If the clouds overlap in part, a wide kernel pulls a correct pose away.
    widths = [first, *(share * pyramid.spacing for share in NEAR.narrow_spacings)]
    found: list[Annealed] = []
    for width in widths:
        poll()
        found.append(anneal(pyramid, kind, transform, max(width, last), last, poll=poll))
    if max(one.inliers for one in found) < NEAR.enough_inliers:
        poll()
        found.append(anneal(pyramid, kind, transform, wide, last, poll=poll))
    best = max(found, key=lambda one: one.score)
    return PoseStart(best.transform, best.sigma, best.inliers, name, best.path)


def first_width(points: Frame, pyramid: Pyramid) -> float:
    """The first width of annealing from a pose that is nearly right, in the target's unit."""
    return NEAR.first_spacings * pyramid.spacing_of(min(NEAR.spacing_points, points.target.shape[1]))


def _scaled(
    points: Frame, pyramid: Pyramid, kind: int, transform: Float64, first: float, wide: float, last: float, poll: Poll
) -> PoseStart:
    """The better of two starts, by the score of the source: from the pose, and from the pose after a translation."""
    poll()
    shifted = anneal(pyramid, TRANSLATION, transform, wide, last, poll=poll)
    begins = (transform, first), (shifted.transform, min(first, max(4 * shifted.sigma, last)))
    found: list[PoseStart] = []
    scores: list[float] = []
    for begin, width in begins:
        poll()
        end, _ = _descended(points, kind, begin, last, width)
        score = -math.inf
        if np.linalg.slogdet(end.transform[:, : points.dimension])[0] > 0:
            poll()
            score = anneal(pyramid, TRANSLATION, end.transform, max(2 * end.sigma, last), last, poll=poll).score
        found.append(end)
        scores.append(score)
    return found[0] if scores[0] >= scores[1] else found[1]


def _descended(
    points: Frame, kind: int, transform: Float64, last: float, first: float | None = None
) -> tuple[PoseStart, float]:
    """The end of the compiled descent from the width `first`, by default a narrow one, and the targets' spacing."""
    D = points.dimension
    # The data may be thinned much more than the points that they are matched with.
    scaled = NEAR.explained_targets, ANNEALING.source_points
    counts = scaled if SCALES[kind] else (ANNEALING.source_points, NEAR.descent_points)
    source, target = (_some(cloud, count) for cloud, count in zip((points.source, points.target), counts, strict=True))
    coarse = np.ascontiguousarray(target[:, : NEAR.coarse_targets])
    spacing = spacing_between(target, D)
    coarse_spacing = spacing if coarse.shape[1] == target.shape[1] else spacing_between(coarse, D)
    few = coarse_spacing
    if coarse.shape[1] > NEAR.spacing_points:
        few = spacing_between(np.ascontiguousarray(coarse[:, : NEAR.spacing_points]), D)
    path = np.empty((DESCENT.most_steps, D, D + 1))
    found = empty_e_step(len(source), max(source.shape[1], target.shape[1]))
    begin = max(NEAR.first_spacings * few if first is None else first, last)
    state = first_descent(transform, begin, target)
    columns, bin_weight = np.empty(source.shape[1]), robust_bin(D)
    while True:
        state = descend(
            source,
            target,
            coarse,
            D,
            kind,
            last,
            spacing,
            coarse_spacing,
            bin_weight,
            found,
            columns,
            path,
            state,
            slices.SLICE_PAIRS,
        )
        if state.done:
            break
        slices.pause()
    steps = state.steps
    end = path[steps - 1].copy() if steps else transform
    return PoseStart(end, state.width, state.inliers, "", [transform, *path[:steps]]), spacing


def _some(cloud: Float64, count: int) -> Float64:
    """At most `count` points of a cloud (P, N), in random order, with a fixed seed."""
    return np.take(cloud, _shuffled(cloud.shape[1], count), 1)


@lru_cache(32)
def _shuffled(n: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng(1).permutation(n)[:count].copy()
