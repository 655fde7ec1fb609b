"""Pose hypotheses from congruent triangles of the source and the target, refined and ranked."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..cancellation import Poll
from ..coordinates import Frame
from ..kernel.extent import clipped_deviation
from ..kinds import SCALES
from .congruence import PROGRESS_END, Distances, bases, congruent, distances
from .growing import grow
from .landscape import Landscape, landscape
from .pyramid import Pyramid
from .ranking import ranked
from .tuning import CONGRUENCE, GROWING, HYPOTHESES, LANDSCAPE, Try

Float64 = NDArray[np.float64]


class Hypothesis(NamedTuple):
    """A pose and the evidence for it."""

    transform: Float64  # (D, D + 1)
    width: float  # at which it explains the points best
    score: float  # log-ratio for each point, see `landscape`
    support: int  # triangles that led to it

    @property
    def merit(self) -> float:
        """The score; of equal poses, that of the one that turns less is larger."""
        linear = self.transform[:, :-1]
        scale = math.sqrt(float((linear**2).sum()) / len(linear)) or 1.0
        return self.score + HYPOTHESES.upright * float(np.trace(linear)) / scale


class Hypotheses:
    """The best poses so far, all different.

    Args:
        sample: (D, n) source points on which distances between poses are computed.
        least_distance: root mean square distance below which two poses are the same, in the target's unit.
    """

    def __init__(self, sample: Float64, least_distance: float) -> None:
        D, n = sample.shape
        self.found: list[Hypothesis] = []
        self._least_distance = least_distance
        # A root of the moments Σ p̃ p̃ᵀ / n. The distance of two transforms times it is the root mean square distance
        # of the points that they move.
        whole = np.vstack([sample, np.ones(n)])
        values, vectors = np.linalg.eigh(whole @ whole.T / n)
        self._root = vectors * np.sqrt(np.maximum(values, 0))
        self._places = np.zeros((0, D * (D + 1)))
        self._merits: list[float] = []

    def add(self, new: list[Hypothesis]) -> None:
        """Add the poses of one triangle."""
        led: set[int] = set()
        for merit, one in sorted(((one.merit, one) for one in new), key=lambda pair: -pair[0]):
            place = (one.transform @ self._root).ravel()
            off = ((self._places - place) ** 2).sum(1)
            alike = int(off.argmin()) if len(off) else -1
            if alike >= 0 and off[alike] < self._least_distance**2:
                other = self.found[alike]
                support = other.support + (alike not in led)
                led.add(alike)
                if merit > self._merits[alike]:
                    self.found[alike], self._places[alike], self._merits[alike] = one, place, merit
                self.found[alike] = self.found[alike]._replace(support=support)
            elif len(self.found) < HYPOTHESES.most:
                led.add(len(self.found))
                self.found.append(one)
                self._merits.append(merit)
                self._places = np.vstack([self._places, place])
            else:
                worst = min(range(HYPOTHESES.most), key=self._merits.__getitem__)
                if merit > self._merits[worst]:
                    led.add(worst)
                    self.found[worst], self._places[worst], self._merits[worst] = one, place, merit

    def ranked(self) -> list[Hypothesis]:
        """All poses, the best first."""
        scores, transforms = [one.score for one in self.found], [one.transform for one in self.found]
        return [self.found[k] for k in ranked(scores, transforms, HYPOTHESES.tie)]

    def clear(self) -> bool:
        """Whether the best pose stands out, so that the search may end."""
        if not self.found:
            return False
        best, *others = self.ranked()
        if best.support >= HYPOTHESES.saturated and best.score >= HYPOTHESES.certain:
            return True
        second = max([HYPOTHESES.chance, *(other.score for other in others[:1])])
        return best.support >= HYPOTHESES.agreeing and best.score - second >= HYPOTHESES.margin


def hypotheses(points: Frame, pyramid: Pyramid, kind: int, poll: Poll) -> Hypotheses:
    """Search for poses of this kind (RIGID or SIMILARITY, D = 2 or 3).

    `poll` is called for each part of a triangle, and may raise.
    """
    D = points.dimension
    source, target = pyramid.source(HYPOTHESES.corners), _distinct(pyramid.target(HYPOTHESES.corners))
    spacing = pyramid.spacing_of(HYPOTHESES.corners)
    size = clipped_deviation(target[:D])
    sample = np.ascontiguousarray(source[:D, : HYPOTHESES.compared_points])
    out = Hypotheses(sample, max(HYPOTHESES.apart_deviations * size, 0.5 * spacing))
    if spacing == 0 or source.shape[1] < 3 or target.shape[1] < 3:
        return out
    smooth = 2 * pyramid.spacing_of(HYPOTHESES.smooth_spacing_targets)
    place = landscape(pyramid.target(HYPOTHESES.targets), pyramid.target(HYPOTHESES.smooth_targets), spacing, smooth, D)
    search = _Search(D, kind, np.ascontiguousarray(source.T), distances(target), place, spacing)
    scale = size / clipped_deviation(source[:D])
    ranges = [(scale / factor, scale * factor) for factor in HYPOTHESES.scales] if SCALES[kind] else [(1.0, 1.0)]
    chooser = np.random.default_rng(4)
    for scales in ranges:
        for step in HYPOTHESES.tries:
            made = bases(source, search.target, step.bases, GROWING.reaches[-1], chooser)
            left = step.budget // len(ranges)
            for corners, around in zip(made.corners, made.around, strict=True):
                tried, new = search.one(corners, around, step, scales, left, poll)
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
        self._everywhere = np.arange(min(HYPOTHESES.verdict_points, len(tests)))
        self._transforms, self._scores = np.zeros((CONGRUENCE.kept, 3, 4)), np.empty(CONGRUENCE.kept)
        self._rungs = np.zeros(CONGRUENCE.kept, np.int64)

    def one(
        self,
        corners: Float64,
        around: NDArray[np.int64],
        step: Try,
        scales: tuple[float, float],
        budget: int,
        poll: Poll,
    ) -> tuple[int, list[Hypothesis]]:
        """The number of hypotheses of one triangle, `corners` (3, 3), and its best poses.

        `around` (n,) are the source points around it; `scales` are the least and the largest scale. `poll` is called
        before each part of the work.
        """
        D, transforms, scores, rungs = self._dimension, self._transforms, self._scores, self._rungs
        near = np.ascontiguousarray(self._tests[around[: CONGRUENCE.tests]])
        tolerance = step.tolerance * self._spacing
        progress = np.zeros(4, np.int64)
        rules = step.rung, tolerance, D == 2, *scales, budget, CONGRUENCE.part
        tried = 0
        while progress[0] != PROGRESS_END:
            poll()
            tried = congruent(corners, near, self.target, self._place, *rules, progress, transforms, scores)
        poll()
        grow(self._kind, D, self._tests, around, self._everywhere, self._place, step.rung, transforms, scores, rungs)
        new = [
            Hypothesis(
                np.ascontiguousarray(np.delete(transforms[k], 2, 1)[:2]) if D == 2 else transforms[k].copy(),
                LANDSCAPE.widths[rungs[k]] * self._spacing,
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
