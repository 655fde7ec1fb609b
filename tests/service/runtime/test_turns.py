"""Laws of turns: a long job gives way to the jobs of others, and goes on later."""

from __future__ import annotations

import asyncio
import contextvars
import math
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from os import PRIO_PROCESS, getpriority
from typing import Any
from unittest.mock import Mock

import pytest

from service.errors import DeadlineExceeded, Overloaded
from service.runtime import turns
from service.runtime.batching import Batcher, Limits
from service.runtime.caller import CALLER
from tests.service.runtime.batchers import Recorder, run, until


@pytest.fixture(autouse=True)
def _short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch may give way at once."""
    monkeypatch.setattr(turns, "SLICE_SECONDS", 0.0)


class Long:
    """A worker that returns 10 x job. Negative jobs are long: they give way until they are released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.began: list[int] = []
        self.computing = 0

    def __call__(self, jobs: list[int]) -> list[int]:
        self.began += jobs
        for job in jobs:
            self.computing += 1
            assert self.computing == 1
            while job < 0 and not self.released.is_set():
                self.computing -= 1
                turns.give_way()
                self.computing += 1
                time.sleep(0.0005)
            self.computing -= 1
        return [10 * job for job in jobs]


def submit(batcher: Batcher[int, int], caller: str, job: int, timeout: float | None = None) -> asyncio.Task[int]:
    """Submit a job of `caller`."""
    context = contextvars.copy_context()
    context.run(CALLER.set, caller)
    return asyncio.create_task(batcher.submit(job, timeout), context=context)


def play(
    story: Callable[[Batcher[int, int]], Coroutine[Any, Any, None]], worker: Long, alone: float = math.inf
) -> Recorder:
    """Run `story` with one job to a batch and the long ones in a class of their own."""
    try:
        limits = Limits(1, 1e9, 100, 1e9)
        return run(
            story,
            worker,
            limits=limits,
            threads=4,
            key=lambda job: job,
            size=_size,
            cost=lambda job: abs(job),
            alone=alone,
        )
    finally:
        worker.released.set()


def _size(job: int) -> float:
    return 1e6 if job < 0 else 1.0


@pytest.mark.parametrize("caller", ["a", "b"])
def test_jobs_of_another_caller_or_size_end_while_a_long_one_goes_on(caller: str) -> None:
    worker = Long()

    async def story(batcher: Batcher[int, int]) -> None:
        long = submit(batcher, "a", -1)
        await until(lambda: worker.began == [-1])
        assert await asyncio.gather(*(submit(batcher, caller, job) for job in range(20))) == list(range(0, 200, 10))
        assert not long.done()
        worker.released.set()
        assert await long == -10

    play(story, worker)


def test_long_jobs_of_several_callers_take_turns_and_those_of_one_run_in_order() -> None:
    worker = Long()

    async def story(batcher: Batcher[int, int]) -> None:
        jobs = [submit(batcher, "a", -1), submit(batcher, "a", -2), submit(batcher, "b", -3), submit(batcher, "c", -4)]
        await until(lambda: {-1, -3, -4} <= set(worker.began))
        assert -2 not in worker.began
        worker.released.set()
        assert await asyncio.gather(*jobs) == [-10, -20, -30, -40]

    assert sorted(play(story, worker).sizes) == [1] * 4


def test_the_last_thread_is_for_jobs_that_are_smaller_than_all_that_have_begun() -> None:
    worker = Long()

    async def story(batcher: Batcher[int, int]) -> None:
        jobs = [submit(batcher, f"caller {number}", -number) for number in range(1, 10)]
        await until(lambda: len(worker.began) == 3)
        assert await submit(batcher, "caller 10", 10) == 100
        assert worker.began[3:] == [10]
        worker.released.set()
        assert await asyncio.gather(*jobs) == [-10 * number for number in range(1, 10)]

    play(story, worker)


def test_of_jobs_that_must_be_alone_one_at_a_time_has_begun() -> None:
    worker = Long()

    async def story(batcher: Batcher[int, int]) -> None:
        jobs = [submit(batcher, "a", -5), submit(batcher, "b", -6), submit(batcher, "c", -1), submit(batcher, "d", 2)]
        assert await jobs[3] == 20
        await until(lambda: len(worker.began) == 3)
        await asyncio.sleep(0.01)
        assert -6 not in worker.began
        worker.released.set()
        assert await asyncio.gather(*jobs) == [-50, -60, -10, 20]

    play(story, worker, alone=5.0)


def test_where_no_further_thread_can_start_jobs_wait_for_the_one_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Long()

    async def story(batcher: Batcher[int, int]) -> None:
        monkeypatch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
        jobs = [submit(batcher, "a", -1)]
        await until(lambda: worker.began == [-1])
        jobs += [submit(batcher, "b", 2), submit(batcher, "c", -3)]
        await asyncio.sleep(0.01)
        assert worker.began == [-1]
        worker.released.set()
        assert await asyncio.gather(*jobs) == [-10, 20, -30]
        monkeypatch.undo()

    play(story, worker)


def test_a_long_job_has_its_deadline_also_while_it_is_paused() -> None:
    worker = Long()

    async def story(batcher: Batcher[int, int]) -> None:
        long = [submit(batcher, "a", -1, timeout=0.3), submit(batcher, "b", -2, timeout=0.3)]
        for job in long:
            with pytest.raises(DeadlineExceeded):
                await job
        assert await submit(batcher, "c", 3) == 30

    play(story, worker)


def test_closing_waits_for_paused_batches() -> None:
    worker = Long()

    async def story(batcher: Batcher[int, int]) -> None:
        jobs = [submit(batcher, "a", -1), submit(batcher, "b", -2)]
        await until(lambda: len(worker.began) == 2)
        closing = asyncio.create_task(batcher.close(30))
        worker.released.set()
        await closing
        assert await asyncio.gather(*jobs) == [-10, -20]

    play(story, worker)


def test_a_full_queue_of_one_caller_is_open_to_another() -> None:
    gate = threading.Event()

    def worker(jobs: list[int]) -> list[int]:
        assert gate.wait(60)
        return jobs

    async def story(batcher: Batcher[int, int]) -> None:
        full = [submit(batcher, "a", 0)]
        await asyncio.sleep(0.01)
        full += [submit(batcher, "a", job) for job in range(1, 9)]
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded):
            await submit(batcher, "a", 100)
        other = submit(batcher, "b", 101)
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded):
            await submit(batcher, "b", 102)
        gate.set()
        assert await asyncio.gather(*full, other) == [*range(9), 101]

    run(story, worker, limits=Limits(1, 1, 8, 100))


def test_a_deadline_is_compared_with_the_wait_of_the_caller_not_of_all() -> None:
    gate = threading.Event()
    gate.set()

    def worker(jobs: list[int]) -> list[int]:
        time.sleep(0.05)
        assert gate.wait(60)
        return jobs

    async def story(batcher: Batcher[int, int]) -> None:
        await submit(batcher, "a", 0)  # from now on the batcher predicts at least 50 ms per job
        gate.clear()
        waiting = [submit(batcher, "a", job) for job in range(1, 200)]
        await asyncio.sleep(0.1)
        with pytest.raises(Overloaded):
            await submit(batcher, "a", 200, timeout=5.0)
        other = submit(batcher, "b", 201, timeout=5.0)
        await asyncio.sleep(0.01)
        gate.set()
        assert await other == 201
        for task in waiting:
            task.cancel()

    run(story, worker, limits=Limits(1, 1, 1000, 1000))


@pytest.mark.skipif(sys.platform != "linux", reason="only there have threads a priority of their own")
def test_the_threads_of_a_lane_lower_their_own_priority_only() -> None:
    found = []

    def worker(jobs: list[int]) -> list[int]:
        found.append(getpriority(PRIO_PROCESS, threading.get_native_id()))
        return jobs

    async def story(batcher: Batcher[int, int]) -> None:
        await batcher.submit(1)

    own = getpriority(PRIO_PROCESS, 0)
    run(story, worker, nice=2)
    assert found == [min(own + 2, 19)]
    assert getpriority(PRIO_PROCESS, threading.get_native_id()) == own


def test_giving_way_has_no_effect_outside_of_a_lane() -> None:
    turns.give_way()
