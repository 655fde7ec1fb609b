"""The record of an iteration: its trace, its path for pictures, and the poll for cancellation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..cancellation import Cancelled
from ..model import Parameters
from ..problem import Problem

Float64 = NDArray[np.float64]


class Record:
    """The accepted E-steps of one problem, in order: the parameters and the log-likelihood of each."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self.steps: list[tuple[Parameters, float]] = []
        self.path: list[Float64] = []

    def keep(self, at: Parameters, log_likelihood: float) -> bool:
        """Record one step. Returns True, so that the iteration continues. Raises Cancelled as `poll` does."""
        self.poll()
        if self._problem.trace:
            self.steps.append((at, log_likelihood))
        self.record_path([at.transform])
        return True

    def forget(self, path: int) -> None:
        """Discard the steps of an iteration that begins anew, and the path but for its first `path` transforms."""
        self.steps.clear()
        del self.path[path:]

    def record_path(self, transforms: list[Float64]) -> None:
        """Record transforms (D, D + 1) for pictures only."""
        if self._problem.path:
            self.path += transforms

    def poll(self) -> bool:
        """Return True. Raises Cancelled if the problem's `cancelled` returns True."""
        if self._problem.cancelled():
            raise Cancelled
        return True
