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
    """The cancelled problems of a batch: those whose hook `cancelled` has returned True at least once.

    The problems of one request have one hook, which is called once for all of them. A hook that has returned True is
    not called again.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._hooks = [_quiet(problem.cancelled) for problem in problems]
        self._waiting = dict.fromkeys(self._hooks)
        self._ended: set[Callable[[], bool]] = set()

    def among(self, indices: Sequence[int]) -> set[int]:
        """Those of the problems with these indices that are cancelled. Other jobs have their turn meanwhile."""
        give_way()
        hooks = self._hooks
        for hook in {hooks[i] for i in indices} & self._waiting.keys():
            self._ask(hook)
        return {i for i in indices if hooks[i] in self._ended} if self._ended else set()

    def look(self) -> bool:
        """Whether all problems are cancelled. Other jobs have their turn meanwhile."""
        give_way()
        return all(self._ask(hook) for hook in [*self._waiting])

    def _ask(self, hook: Callable[[], bool]) -> bool:
        if not hook():
            return False
        del self._waiting[hook]
        self._ended.add(hook)
        return True

    def poll(self) -> None:
        """Raise Cancelled if all problems are cancelled."""
        if self.look():
            raise Cancelled


def _quiet(hook: Callable[[], bool]) -> Callable[[], bool]:
    """The same hook, if possible without a turn for others: a batch has one turn, not one for each problem."""
    flag = getattr(hook, "__self__", None)
    return flag.is_set if isinstance(flag, Flag) and hook == flag.poll else hook


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
