"""`init` auto for translations: the centroids, no shift, and a vote over differences, each annealed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..batched.search import nudge, search_one
from ..cancellation import Poll
from ..coordinates import Frame
from ..kernel.fitting import rms_distance
from ..kinds import TRANSLATION
from ..problem import Problem
from .annealing import anneal
from .named import deviation, named
from .near import first_width
from .pyramid import Pyramid
from .starts import Annealing, PoseStart, by_score
from .tuning import TRANSLATIONS

Float64 = NDArray[np.float64]


def translation_start(problem: Problem, points: Frame, pyramid: Pyramid, last: float, poll: Poll) -> PoseStart:
    """The start with the highest score. `last` is the smallest width, in the target's unit.

    The best translation elsewhere is the runner-up, if it explains the source about as well. `poll` is called before
    each candidate and during the vote, and may raise.
    """
    D = points.dimension
    near = first_width(points, pyramid)
    centroid = named(problem._replace(init="centroid"), points)
    identity = named(problem._replace(init="identity"), points)
    starts = [
        ("centroid", centroid, near),
        ("identity", identity, near),
        ("anneal", centroid, deviation(points.target[:D])),
        *(("vote", shift, near) for shift in _voted(points, pyramid, last if problem.sigma is not None else 0.0, poll)),
    ]
    found: list[Annealing] = []
    for name, transform, width in starts:
        poll()
        first = max(width, last)
        beside = transform.copy()
        beside[:, D] += first * nudge(D)
        found.append(Annealing(name, anneal(pyramid, TRANSLATION, beside, first, last, poll=poll)))
    (name, best), *others = by_score(found)
    start = PoseStart(best.transform, best.sigma, best.inliers, name, best.path)
    for _, other in others:
        shift = rms_distance(points.source, other.transform, best.transform)
        if shift > TRANSLATIONS.rival_widths * max(other.sigma, best.sigma):
            close = other.score > best.score - TRANSLATIONS.rival_nats
            return start._replace(others=(other.transform,)) if close else start
    return start


def _voted(points: Frame, pyramid: Pyramid, sigma: float, poll: Poll) -> list[Float64]:
    """The transforms (D, D + 1) that the search over all pairs of a subset finds: the winner and its rival, if any."""
    D = points.dimension
    source, target = (
        np.ascontiguousarray(cloud(TRANSLATIONS.vote_points)[:D].T) for cloud in (pyramid.source, pyramid.target)
    )
    out: list[Float64] = []
    for shift in search_one(source, target, sigma, poll):
        transform = np.eye(D, D + 1)
        transform[:, D] = shift
        out.append(transform)
    return out
