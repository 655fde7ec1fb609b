"""The result of every kind of start."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .annealing import Annealed

Float64 = NDArray[np.float64]


class PoseStart(NamedTuple):
    """The pose that the climb starts from, in the frame's coordinates."""

    transform: Float64  # (D, D + 1)
    sigma: float  # in the target's unit
    inliers: float  # share of the source with a partner
    name: str
    path: list[Float64]  # the transforms (D, D + 1) up to there
    runner_up: Float64 | None = None  # (D, D + 1) the best pose that differs


def best_of(found: list[tuple[str, Annealed]]) -> PoseStart:
    """The start with the highest score; the first of equal ones."""
    name, best = max(found, key=lambda pair: pair[1].score)
    return PoseStart(best.transform, best.sigma, best.inliers, name, best.path)
