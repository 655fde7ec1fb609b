"""Pose hypotheses from congruent triangles of the source and the target, refined and ranked."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..coordinates import Frame
from ..kernel.extent import spread
from ..kernel.fitting import SIMILARITY
from .congruence import KEPT, TESTS, Distances, bases, congruent, distances
from .growing import REACHES, grow
from .landscape import WIDTHS, Landscape, landscape
from .pyramid import Pyramid

Float64 = NDArray[np.float64]

# Points of either cloud whose triangles are compared; targets that a pose may hit; targets of the smooth density, and
# of its spacing; and source points that score a pose.
CORNERS = 1500
TARGETS = 4000
SMOOTH, SMOOTH_SPACING = 600, 256
VERDICT = 400


class Try(NamedTuple):
    """One round of triangles at one tolerance."""

    tolerance: float  # how far a side may be off, in spacings of the target
    rung: int  # of the landscape's ladder
    bases: int  # triangles
    budget: int  # hypotheses


# The noise is unknown. The number of hypotheses grows as the cube of the tolerance, so fine rounds are cheap. While the
# tolerance is below the noise, the chance of finding the pose grows as the cube as well.
TRIES = (
    Try(0.15, 2, 60, 600_000),
    Try(0.3, 3, 100, 2_000_000),
    Try(0.6, 4, 80, 2_000_000),
    Try(1.0, 5, 30, 1_000_000),
)
# A pose stands out if this many triangles lead to it, and its log-ratio for each point exceeds all others by MARGIN.
AGREEING, MARGIN = 3, 0.3
# The log-ratio that chance may reach, if there is no other pose to compare with.
CHANCE = -0.5
# A pose with this many triangles and this log-ratio cannot be improved on, although others may equal it.
SATURATED, CERTAIN = 8, 0.8
# Factors by which the scale may differ from the ratio of the spreads, which outliers and cropping change.
SCALES = (1.05, 1.5)
# The most poses that are kept, and the least root mean square distance between two, in spreads.
MOST = 32
APART = 0.1
SAMPLE = 100


class Hypothesis(NamedTuple):
    """A pose and the evidence for it."""

    transform: Float64  # (D, D + 1)
    width: float  # at which it explains the points best
    score: float  # log-ratio for each point, see `landscape`
    support: int  # triangles that led to it


class Hypotheses:
    """The best poses found so far, no two alike."""

    def __init__(self, sample: Float64, least_distance: float) -> None:
        D, n = sample.shape
        self.found: list[Hypothesis] = []
        self._least_distance = least_distance
        # A root of the moments Σ p̃ p̃ᵀ / n: transforms times it are as far apart as they take the points, root mean
        # square.
        whole = np.vstack([sample, np.ones(n)])
        values, vectors = np.linalg.eigh(whole @ whole.T / n)
        self._root = vectors * np.sqrt(np.maximum(values, 0))
        self._places = np.zeros((0, D * (D + 1)))

    def add(self, new: list[Hypothesis]) -> None:
        """Add the poses of one triangle."""
        led: set[int] = set()
        for one in sorted(new, key=lambda one: -one.score):
            place = (one.transform @ self._root).ravel()
            off = ((self._places - place) ** 2).sum(1)
            alike = int(off.argmin()) if len(off) else -1
            if alike >= 0 and off[alike] < self._least_distance**2:
                other = self.found[alike]
                support = other.support + (alike not in led)
                led.add(alike)
                if one.score > other.score:
                    self.found[alike], self._places[alike] = one, place
                self.found[alike] = self.found[alike]._replace(support=support)
            elif len(self.found) < MOST:
                led.add(len(self.found))
                self.found.append(one)
                self._places = np.vstack([self._places, place])
            else:
                worst = min(range(MOST), key=lambda k: self.found[k].score)
                if one.score > self.found[worst].score:
                    led.add(worst)
                    self.found[worst], self._places[worst] = one, place

    def ranked(self) -> list[Hypothesis]:
        """All poses, the best first."""
        return sorted(self.found, key=lambda one: -one.score)

    def clear(self) -> bool:
        """Whether the best pose stands out, so that the search may end."""
        if not self.found:
            return False
        best, *others = self.ranked()
        if best.support >= SATURATED and best.score >= CERTAIN:
            return True
        second = max([CHANCE, *(other.score for other in others[:1])])
        return best.support >= AGREEING and best.score - second >= MARGIN


def hypotheses(points: Frame, pyramid: Pyramid, kind: int, poll: Callable[[], object]) -> Hypotheses:
    """Search for poses of this kind (RIGID or SIMILARITY, D = 2 or 3).

    `poll` is called for each triangle, and may raise.
    """
    D = points.dimension
    source, target = pyramid.source(CORNERS), _distinct(pyramid.target(CORNERS))
    spacing = pyramid.spacing_of(CORNERS)
    size = spread(target[:D])
    out = Hypotheses(np.ascontiguousarray(source[:D, :SAMPLE]), max(APART * size, 0.5 * spacing))
    if spacing == 0 or source.shape[1] < 3 or target.shape[1] < 3:
        return out
    smooth = 2 * pyramid.spacing_of(SMOOTH_SPACING)
    place = landscape(pyramid.target(TARGETS), pyramid.target(SMOOTH), spacing, smooth, D)
    search = _Search(D, kind, np.ascontiguousarray(source.T), distances(target), place, spacing)
    scale = size / spread(source[:D])
    ranges = [(scale / factor, scale * factor) for factor in SCALES] if kind == SIMILARITY else [(1.0, 1.0)]
    chooser = np.random.default_rng(4)
    for scales in ranges:
        for step in TRIES:
            made = bases(source, search.target, step.bases, REACHES[-1], chooser)
            left = step.budget // len(ranges)
            for corners, around in zip(made.corners, made.around, strict=True):
                poll()
                tried, new = search.one(corners, around, step, scales, left)
                out.add(new)
                left -= tried
                if out.clear():
                    return out
                if left <= 0:
                    break
    return out


class _Search:
    """The data that all triangles share."""

    def __init__(
        self, dimension: int, kind: int, tests: Float64, target: Distances, place: Landscape, spacing: float
    ) -> None:
        self.target = target
        self._dimension, self._kind, self._tests, self._place, self._spacing = dimension, kind, tests, place, spacing
        self._everywhere = np.arange(min(VERDICT, len(tests)))
        self._transforms, self._scores = np.zeros((KEPT, 3, 4)), np.empty(KEPT)
        self._rungs = np.zeros(KEPT, np.int64)

    def one(
        self, corners: Float64, around: NDArray[np.int64], step: Try, scales: tuple[float, float], budget: int
    ) -> tuple[int, list[Hypothesis]]:
        """The number of hypotheses of one triangle, and its best poses."""
        D, transforms, scores, rungs = self._dimension, self._transforms, self._scores, self._rungs
        near = np.ascontiguousarray(self._tests[around[:TESTS]])
        tolerance = step.tolerance * self._spacing
        tried = congruent(
            corners, near, self.target, self._place, step.rung, tolerance, D == 2, *scales, budget, transforms, scores
        )
        grow(self._kind, D, self._tests, around, self._everywhere, self._place, step.rung, transforms, scores, rungs)
        new = [
            Hypothesis(
                np.ascontiguousarray(np.delete(transforms[k], 2, 1)[:2]) if D == 2 else transforms[k].copy(),
                WIDTHS[rungs[k]] * self._spacing,
                float(scores[k]) / len(self._everywhere),
                1,
            )
            for k in np.flatnonzero(scores > -np.inf)
        ]
        return tried, new


def _distinct(points: Float64) -> Float64:
    """The points (3, m) without repetitions, in the order in which they came."""
    _, first = np.unique(points, axis=1, return_index=True)
    return np.ascontiguousarray(points[:, np.sort(first)])
