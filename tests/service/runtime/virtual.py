"""Virtual time for a Batcher: a load of hours is simulated in seconds, and nothing depends on the machine."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Hashable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from service.errors import DeadlineExceeded, Overloaded
from service.runtime import batching
from service.runtime.batching import Batcher, Limits

Seconds = Callable[[list[int]], float]


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time leaps to the next timer when nothing is ready."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def _run_once(self) -> None:
        inside: Any = self
        while inside._scheduled and inside._scheduled[0].cancelled():
            heapq.heappop(inside._scheduled)._scheduled = False
            inside._timer_cancelled_count -= 1
        if inside._scheduled and not inside._ready:
            self._now = max(self._now, inside._scheduled[0].when())
        super()._run_once()  # type: ignore[misc]


class VirtualThreads:
    """Stands for `LaneThreads`: a batch takes the virtual `seconds(jobs)`, and returns its jobs."""

    def __init__(self, seconds: Seconds) -> None:
        self._seconds = seconds
        self.batches: list[list[int]] = []

    def __len__(self) -> int:
        return 1

    def add(self) -> bool:
        """Nothing: there is no thread."""
        return True

    def put(self, jobs: list[int], _turn: object, done: Callable[[list[int], float], object]) -> None:
        """Call `done` when the batch ends."""
        self.batches.append(jobs)
        seconds = self._seconds(jobs)
        asyncio.get_running_loop().call_later(seconds, done, jobs, seconds)

    def stop(self) -> None:
        """Nothing: there is no thread."""

    async def join(self, _timeout: float) -> None:
        """Nothing: there is no thread."""


class Load(NamedTuple):
    """What became of the jobs, each a second of virtual time."""

    good: float
    late: float
    refused: float
    slowest: float  # seconds of the slowest good answer


def load(
    monkeypatch: pytest.MonkeyPatch,
    rate: float,
    timeout: float,
    seconds: Seconds,
    limits: Limits,
    key: Callable[[int], Hashable] = lambda _: None,
    duration: float = 60.0,
) -> Load:
    """Submit `rate` jobs a second, each with `timeout` seconds, at random times."""
    loop, took = VirtualLoop(), []
    counts = {"refused": 0, "late": 0}
    monkeypatch.setattr(batching, "time", SimpleNamespace(monotonic=loop.time))
    monkeypatch.setattr(batching, "LaneThreads", lambda *_: VirtualThreads(seconds))

    async def one(batcher: Batcher[int, int], job: int) -> None:
        start = loop.time()
        try:
            await batcher.submit(job, timeout)
        except Overloaded:
            counts["refused"] += 1
        except DeadlineExceeded:
            counts["late"] += 1
        else:
            took.append(loop.time() - start)

    async def all_jobs() -> None:
        batcher: Batcher[int, int] = Batcher("virtual", lambda jobs: jobs, limits=limits, key=key)
        batcher.start()
        tasks: list[asyncio.Task[None]] = []
        for at in np.cumsum(np.random.default_rng(0).exponential(1 / rate, int(rate * duration))):
            await asyncio.sleep(at - loop.time())
            tasks.append(asyncio.create_task(one(batcher, len(tasks))))
        await asyncio.gather(*tasks)

    try:
        loop.run_until_complete(all_jobs())
    finally:
        loop.close()
    return Load(len(took) / duration, counts["late"] / duration, counts["refused"] / duration, max(took, default=0.0))
