"""Turns of long jobs: a worker gives way between two parts of its work, so that no job blocks a lane for long.

This is the contract of every engine. A computation that may take longer than SLICE_SECONDS calls `give_way` between its
parts, at least about that often. There it also checks whether it was cancelled. `give_way` returns at once, unless the
slice is over and other jobs wait. It then returns when it is the computation's turn again. No lock may be held
meanwhile, because the worker is called for other jobs.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

# A batch runs at least this long before it gives way.
SLICE_SECONDS = 0.01

_local = threading.local()


class Turn:
    """The turns of one batch. The event loop calls `resume`, the thread of the batch all other methods.

    Args:
        is_wanted: whether another batch waits for its turn; read by the thread.
        pause: called by the thread with the seconds of the slice that has ended.
    """

    __slots__ = ("_go", "_is_wanted", "_pause", "_seen", "_since", "charged", "paused_seconds")

    def __init__(self, is_wanted: Callable[[], bool], pause: Callable[[float], object]) -> None:
        self._is_wanted = is_wanted
        self._pause = pause
        self._go = threading.Semaphore(0)
        self._since = 0.0
        self._seen = math.inf
        self.charged = 0.0
        """Seconds of the slices that have ended."""
        self.paused_seconds = 0.0
        """Seconds between the slices."""

    def begin(self) -> None:
        """Note that the first slice begins, on this thread."""
        self._since = self._seen = time.perf_counter()
        _local.turn = self

    def end(self) -> None:
        """Note that the work has ended."""
        _local.turn = None
        # It refers to the batch, which refers to this turn: both would stay until the garbage collector comes.
        self._pause = _nothing

    def give_way(self) -> None:
        """Pause, if the slice is over and another batch waits."""
        now = self._seen = time.perf_counter()
        used = now - self._since
        if used < SLICE_SECONDS or not self._is_wanted():
            return
        self.charged += used
        self._pause(used)
        self._go.acquire()
        self._since = self._seen = time.perf_counter()
        self.paused_seconds += self._since - now

    @property
    def silent_seconds(self) -> float:
        """Seconds since the work began, gave way or went on: how long it may have made no progress."""
        return max(0.0, time.perf_counter() - self._seen)

    def resume(self) -> None:
        """Let the paused batch go on."""
        self._go.release()


def _nothing(_: float) -> None: ...


def give_way() -> None:
    """Let other jobs of the lane run, if this thread has run for a while and they wait. See the contract above."""
    turn = getattr(_local, "turn", None)
    if turn is not None:
        turn.give_way()
