"""The result of every kind of start."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .annealing import Annealed
from .ranking import ranked
from .tuning import SEARCH

Float64 = NDArray[np.float64]


class PoseStart(NamedTuple):
    """The pose that the climb starts from, in the frame's coordinates."""

    transform: Float64  # (D, D + 1)
    sigma: float  # in the target's unit
    inliers: float  # share of the source with a partner
    name: str
    path: list[Float64]  # the transforms (D, D + 1) up to there
    others: tuple[Float64, ...] = ()  # (D, D + 1) each, the other poses that were found, the best first

    @property
    def runner_up(self) -> Float64 | None:
        """The best pose (D, D + 1) that differs."""
        return self.others[0] if self.others else None


class Annealing(NamedTuple):
    """The end of a candidate's annealing."""

    name: str
    end: Annealed


def by_score(found: list[Annealing]) -> list[Annealing]:
    """The best first."""
    scores, transforms = [one.end.score for one in found], [one.end.transform for one in found]
    return [found[k] for k in ranked(scores, transforms, SEARCH.tie)]


def best_of(found: list[Annealing]) -> PoseStart:
    """The start with the highest score."""
    name, best = by_score(found)[0]
    return PoseStart(best.transform, best.sigma, best.inliers, name, best.path)
