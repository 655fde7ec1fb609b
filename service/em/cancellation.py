"""Cancellation: how a computation that is no longer needed ends early."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..runtime.turns import give_way
from .kernel.truncated import UNMATCHED
from .outcome import Outcome
from .problem import Problem

# Long phases call it between their parts, about once per iteration's work. It raises Cancelled to end the computation.
Poll = Callable[[], object]


class Cancelled(Exception):
    """The caller has cancelled the problem."""


class Flag:
    """Set once by one thread, and read by others: the computation of a problem polls it.

    A thread can also wait for a `threading.Event`, but creating one takes twenty times as long.
    """

    __slots__ = ("_is_set",)

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """Set the flag. It stays set."""
        self._is_set = True

    def is_set(self) -> bool:
        """Whether the flag is set."""
        return self._is_set

    def poll(self) -> bool:
        """Let other jobs of the lane run, if it is their turn. Then, whether the flag is set."""
        give_way()
        return self._is_set


class Cancellation:
    """The cancelled problems of a batch: those whose hook `cancelled` has returned True at least once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._problems = problems
        self._found: set[int] = set()

    def includes(self, i: int) -> bool:
        """Whether problem `i` is cancelled. Its hook is not called again once it has returned True."""
        if i not in self._found and self._problems[i].cancelled():
            self._found.add(i)
        return i in self._found

    def look(self) -> bool:
        """Whether all problems are cancelled. Other jobs have their turn meanwhile."""
        return all(self.includes(i) for i in range(len(self._problems)))

    def poll(self) -> None:
        """Raise Cancelled if all problems are cancelled."""
        if self.look():
            raise Cancelled


def unfinished(
    problem: Problem,
    translation: NDArray[np.float64] | None = None,
    sigma: float | None = None,
    *,
    iterations: int = 0,
    start: str = "",
) -> Outcome:
    """The outcome of a cancelled problem: its last T (D,) and σ, and no field that needs another pass.

    A problem that was cancelled before its first iteration has T = 0 and the σ given, or 0.
    """
    n, dimension = problem.source.shape
    return Outcome(
        translation=np.zeros(dimension) if translation is None else translation,
        sigma=(problem.sigma or 0.0) if sigma is None else sigma,
        log_likelihood=math.nan,
        matching=np.full(n, UNMATCHED, np.int64),
        matching_probability=np.zeros(n),
        translation_covariance=None,
        iterations=iterations,
        converged=False,
        stop_reason="cancelled",
        start=start,
        responsibilities=None,
        registered=None,
        trace=None,
    )
