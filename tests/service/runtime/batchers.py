"""Batchers for tests: workers and observers, and the loop that runs them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from service.runtime.batching import Batcher, Limits
from service.runtime.observer import SilentObserver

WIDE = Limits(batch_items=64, batch_cost=64, queue_items=1000, queue_cost=1000)


class Recorder(SilentObserver):
    """Records the events of a Batcher."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.queue: list[tuple[int, float]] = []
        self.errors: list[BaseException] = []

    def dispatched(self, waits: Sequence[float]) -> None:
        self.sizes.append(len(waits))

    def queued(self, items: int, cost: float) -> None:
        self.queue.append((items, cost))

    def failed(self, error: BaseException) -> None:
        self.errors.append(error)


class Gate:
    """A worker that returns 10 x job, and holds every batch until it is opened."""

    def __init__(self, is_open: bool = False) -> None:
        self.event = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[int]] = []
        if is_open:
            self.event.set()

    def __call__(self, jobs: list[int]) -> list[int]:
        self.batches.append(list(jobs))
        self.entered.set()
        assert self.event.wait(60)
        return [10 * job for job in jobs]


def run(story: Callable[[Batcher[int, int]], Coroutine[Any, Any, None]], worker: Any, **options: Any) -> Recorder:
    """Run `story` with a started Batcher, and close it. Returns the events."""
    recorder = Recorder()

    async def main() -> None:
        batcher: Batcher[int, int] = Batcher(
            "test", worker, limits=options.pop("limits", WIDE), observer=recorder, **options
        )
        batcher.start()
        try:
            await asyncio.wait_for(story(batcher), 120)
        finally:
            if isinstance(worker, Gate):
                worker.event.set()
            await batcher.close(5)

    asyncio.run(main())
    return recorder


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
