"""The choice among poses to start from: each is climbed on a sample of the source, and one score ranks all.

The score is the evidence that the clouds agree in more than their outline; see `SurfaceMixture.score`. It does not
depend on how a candidate was found, so no start that is known beats the answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..cancellation import Poll
from ..climbing.climb import climb
from ..kernel.fitting import rms_distance
from ..model import Model, Parameters
from ..starting.ranking import ranked
from .mixture import SurfaceMixture
from .scene import Scene

Float64 = NDArray[np.float64]

# Source points on which candidates are climbed.
SAMPLE = 1500
# The accuracy of these climbs, in σ, and their most steps.
TOLERANCE = 0.02
MOST_STEPS = 40
# Poses that move the source apart by less than this, in τ, are the same.
SAME = 1.0
# A climb ends where it comes nearer than this, in τ, to the end of an earlier one.
MET = 0.5
# Score below which poses are equal.
TIE = 1e-4
# The least σ of these climbs, in τ. Numbers that occur in both clouds, such as those of a floor that an ideal sensor
# scans twice, would otherwise outweigh all else.
LEAST_WIDTH = 0.01


class Candidate(NamedTuple):
    """A pose to climb from, or the end of its climb."""

    name: str
    parameters: Parameters
    score: float = 0.0  # nats for each point of the sample


class Contest:
    """Candidates of one scene, climbed and ranked.

    Args:
        scene: the scene; its source is sampled.
        model: of the mixture.
        widest: the largest σ.
        poll: called at every step; it may raise.
    """

    def __init__(self, scene: Scene, model: Model, widest: float, poll: Poll) -> None:
        self._scene, self._poll = _sampled(scene), poll
        self._mixture = SurfaceMixture(self._scene, model, widest)
        self.ends: list[Candidate] = []
        """The ends so far."""
        self._has_met = False  # whether the last climb met an earlier end
        D = self._scene.dimension
        extended = np.vstack([self._scene.source[:D], np.ones(self._scene.source.shape[1])])
        self._moments = extended @ extended.T / len(extended.T)

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Climb from each, until it meets an earlier end: it would climb to the same."""
        floor = max(self._scene.floor, LEAST_WIDTH * self._scene.tangential)
        for one in candidates:
            if self._is_met(one.parameters):
                continue
            self._has_met = False
            end = climb(
                self._mixture,
                one.parameters,
                tolerance=TOLERANCE,
                max_iterations=MOST_STEPS,
                floor=floor,
                accept=self._going_on,
            )
            if not self._has_met and not self._is_met(end.parameters):
                self.ends.append(Candidate(one.name, end.parameters, self._mixture.score(end.last)))

    def best_first(self) -> list[Candidate]:
        """The distinct ends, from the best to the worst."""
        scores, transforms = zip(*((one.score, one.parameters.transform) for one in self.ends), strict=True)
        kept: list[Candidate] = []
        for k in ranked(scores, transforms, TIE):
            apart = (rms_distance(self._scene.source, transforms[k], other.parameters.transform) for other in kept)
            if all(distance > SAME * self._scene.tangential for distance in apart):
                kept.append(self.ends[k])
        return kept

    def _going_on(self, at: Parameters, _value: float) -> bool:
        self._poll()
        self._has_met = self._is_met(at)
        return not self._has_met

    def _is_met(self, at: Parameters) -> bool:
        """Whether the pose moves the source apart from an earlier end by less than MET."""
        if not self.ends:
            return False
        off = np.stack([one.parameters.transform for one in self.ends]) - at.transform
        squares = ((off @ self._moments) * off).sum((1, 2))
        return bool(squares.min() < (MET * self._scene.tangential) ** 2)


def _sampled(scene: Scene) -> Scene:
    """The scene with at most SAMPLE points of the source, at random with a fixed seed."""
    count = scene.source.shape[1]
    if count <= SAMPLE:
        return scene
    return scene.some(np.sort(np.random.default_rng(7).permutation(count)[:SAMPLE]))
