"""What an iteration tells as it goes: the trace, the path for a picture, and whether anybody still waits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..model import Parameters
from ..problem import Problem

Float64 = NDArray[np.float64]


class Cancelled(Exception):
    """Nobody waits for the answer any longer."""


class Record:
    """Accepted E-steps of one problem, in order: where each was taken, and the log-likelihood there."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.steps: list[tuple[Parameters, float]] = []
        self.path: list[Float64] = []

    def keep(self, at: Parameters, log_likelihood: float) -> bool:
        """Remember one step; True, so that the iteration goes on. Raises Cancelled."""
        self.poll()
        if self._problem.trace:
            self.steps.append((at, log_likelihood))
        self.on_the_way([at.transform])
        return True

    def on_the_way(self, transforms: list[Float64]) -> None:
        """Remember transforms that the picture shows and the trace does not."""
        if self._problem.path:
            self.path += transforms

    def poll(self) -> bool:
        """True. Raises Cancelled where the problem's hook says so."""
        if self._problem.cancelled():
            raise Cancelled
        return True
