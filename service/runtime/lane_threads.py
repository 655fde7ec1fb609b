"""The threads of a lane: they compute batches and report to the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, NamedTuple, TypeVar

from .priority import lower
from .thread_name import show_name
from .turns import Turn

JobT = TypeVar("JobT")
OutcomeT = TypeVar("OutcomeT")


class _Work(NamedTuple, Generic[JobT, OutcomeT]):
    jobs: list[JobT]
    turn: Turn | None
    done: Callable[[list[OutcomeT], float], object]


class LaneThreads(Generic[JobT, OutcomeT]):
    """Threads that call `compute(jobs) -> outcomes`, which must not raise.

    Args:
        name: of the threads.
        nice: how much they lower their priority, from 0 to 19; see `lower`.
    """

    def __init__(self, name: str, compute: Callable[[list[JobT]], list[OutcomeT]], nice: int) -> None:
        self._name = name
        self._compute = compute
        self._nice = nice
        self.loop: asyncio.AbstractEventLoop
        """The event loop that they report to; set before the first thread starts."""
        self._threads: list[threading.Thread] = []
        self._inbox: SimpleQueue[_Work[JobT, OutcomeT] | None] = SimpleQueue()

    def __len__(self) -> int:
        """The number of threads."""
        return len(self._threads)

    def add(self) -> bool:
        """Start one more thread; whether the system allowed it."""
        # A daemon thread, so that a stalled worker cannot keep the process from ending.
        thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._threads.append(thread)
        return True

    def is_alive(self) -> bool:
        """Whether there is a thread, and none has ended."""
        return bool(self._threads) and all(thread.is_alive() for thread in self._threads)

    def put(self, jobs: list[JobT], turn: Turn | None, done: Callable[[list[OutcomeT], float], object]) -> None:
        """Let a thread compute `jobs`. The event loop then calls `done` with what `timed` returns."""
        self._inbox.put(_Work(jobs, turn, done))

    def timed(self, jobs: list[JobT], turn: Turn | None = None) -> tuple[list[OutcomeT], float]:
        """Compute `jobs` on this thread: their outcomes, and the seconds that they took, without pauses."""
        start = time.perf_counter()
        if turn is None:
            outcomes = self._compute(jobs)
            return outcomes, time.perf_counter() - start
        turn.begin()
        try:
            outcomes = self._compute(jobs)
        finally:
            turn.end()
        return outcomes, time.perf_counter() - start - turn.paused_seconds

    def stop(self) -> None:
        """Let each thread end after its batch."""
        for _ in self._threads:
            self._inbox.put(None)

    async def join(self, timeout: float) -> None:
        """Wait until the threads have ended, up to `timeout` seconds for each."""
        for thread in self._threads:
            await asyncio.to_thread(thread.join, timeout)

    def _serve(self) -> None:
        show_name(self._name)
        lower(self._nice)
        while (work := self._inbox.get()) is not None:
            try:
                self.loop.call_soon_threadsafe(work.done, *self.timed(work.jobs, work.turn))
            except RuntimeError:  # the loop was closed, because the batch ran past the shutdown's timeout
                return
            del work  # its jobs would stay in memory until the next batch
