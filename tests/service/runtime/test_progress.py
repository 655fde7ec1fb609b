"""A batch is stalled if it makes no progress, not if it is long."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from service.runtime import batching, turns
from service.runtime.batching import Batcher
from tests.service.runtime.batchers import run, until


class Steps:
    """A worker that gives way once for each step that the test allows."""

    def __init__(self) -> None:
        self.allowed = threading.Semaphore(0)
        self.taken = 0
        self.ends = False

    def __call__(self, jobs: list[int]) -> list[int]:
        while True:
            self.taken += 1
            assert self.allowed.acquire(timeout=60)
            if self.ends:
                return jobs
            turns.give_way()


@pytest.mark.parametrize("longer", [0.0, 50.0])
def test_a_batch_that_gives_way_is_alive_however_long_it_runs(longer: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, steps = SimpleNamespace(now=1000.0), Steps()
    time = SimpleNamespace(monotonic=lambda: clock.now, perf_counter=lambda: clock.now)
    monkeypatch.setattr(turns, "time", time)
    monkeypatch.setattr(batching, "time", time)

    async def story(batcher: Batcher[int, int]) -> None:
        job = asyncio.create_task(batcher.submit(7))
        await until(lambda: steps.taken == 1)
        for step in range(2, 5):
            clock.now += 59 + longer
            assert batcher.is_alive()
            steps.allowed.release()
            await until(lambda step=step: steps.taken == step)  # type: ignore[misc]
        clock.now += 61 + longer
        assert not batcher.is_alive()
        steps.ends = True
        steps.allowed.release()
        assert await job == 7
        assert batcher.is_alive()

    run(story, steps, stall_seconds=60.0, pass_seconds=lambda _: longer, threads=2)
