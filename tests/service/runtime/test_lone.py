"""A short job that comes while its lane is idle: it runs without a turn, and all guarantees hold."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

import pytest
import uvloop

from service.errors import DeadlineExceeded, ShuttingDown, WorkerFailed
from service.runtime.batching import Batcher
from tests.service.runtime.batchers import WIDE, run


class Worker:
    """Returns 10 x job, or fails on 13. Records its batches and their threads."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.threads: set[int] = set()

    def __call__(self, jobs: list[int]) -> list[int]:
        self.batches.append(list(jobs))
        self.threads.add(threading.get_ident())
        if 13 in jobs:
            raise ValueError
        return [10 * job for job in jobs]


def short(jobs: list[int]) -> bool:
    return max(jobs) < 100


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_it_is_computed_on_the_event_loop_and_leaves_an_empty_queue(worker: Worker) -> None:
    async def story(batcher: Batcher[int, int]) -> None:
        assert [await batcher.submit(job) for job in (1, 2)] == [10, 20]
        assert batcher.predicted_wait() == 0
        assert worker.threads == {threading.get_ident()}

    recorder = run(story, worker, is_short=short)
    assert worker.batches == [[1], [2]]
    assert recorder.sizes == [1, 1]
    assert recorder.queue == [(1, 1), (0, 0)] * 2


@pytest.mark.parametrize("others", [[2], [2, 3], [100]])
def test_jobs_that_come_in_the_same_turn_of_the_loop_share_its_batch(worker: Worker, others: list[int]) -> None:
    async def story(batcher: Batcher[int, int]) -> None:
        results = await asyncio.gather(*(batcher.submit(job) for job in (1, *others)))
        assert results == [10 * job for job in (1, *others)]

    run(story, worker, is_short=short)
    assert worker.batches == [[1, *others]]


def test_its_own_error_is_its_outcome(worker: Worker) -> None:
    async def story(batcher: Batcher[int, int]) -> None:
        with pytest.raises(WorkerFailed):
            await batcher.submit(13)
        assert await batcher.submit(1) == 10

    assert [type(error) for error in run(story, worker, is_short=short).errors] == [ValueError]


def test_a_job_that_is_not_short_has_a_thread(worker: Worker) -> None:
    async def story(batcher: Batcher[int, int]) -> None:
        assert await batcher.submit(100) == 1000

    run(story, worker, is_short=short)
    assert threading.get_ident() not in worker.threads


def test_if_it_is_cancelled_before_its_turn_it_is_not_computed(worker: Worker) -> None:
    async def story(batcher: Batcher[int, int]) -> None:
        task = asyncio.create_task(batcher.submit(1))
        asyncio.get_running_loop().call_soon(task.cancel)  # after it was submitted, and before it is dispatched
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await batcher.submit(2) == 20

    recorder = run(story, worker, is_short=short)
    assert worker.batches == [[2]]
    assert recorder.queue == [(1, 1), (0, 0)] * 2


@pytest.mark.parametrize("kind", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_its_deadline_holds(worker: Worker, kind: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        batcher: Batcher[int, int] = Batcher("test", worker, limits=WIDE, is_short=short)
        batcher.start()
        for timeout in (0.0, 1e-9, 1e-6):
            with contextlib.suppress(DeadlineExceeded):  # it may end before
                assert await batcher.submit(1, timeout) == 10
        assert await batcher.submit(2, 60) == 20
        await batcher.close(60)

    with asyncio.Runner(loop_factory=kind) as runner:
        runner.run(asyncio.wait_for(main(), 120))


def test_a_cancellation_after_its_end_changes_nothing(worker: Worker) -> None:
    async def story(batcher: Batcher[int, int]) -> None:
        task = asyncio.create_task(batcher.submit(1))
        while not worker.batches:  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()  # its result is there, and its task has not run since
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await batcher.submit(2) == 20

    run(story, worker, is_short=short)


def test_closing_waits_for_it(worker: Worker) -> None:
    async def story(batcher: Batcher[int, int]) -> None:
        task = asyncio.create_task(batcher.submit(1))
        asyncio.get_running_loop().call_soon(lambda: closing.append(asyncio.create_task(batcher.close(60))))
        closing: list[asyncio.Task[None]] = []
        assert await task == 10
        await closing[0]
        with pytest.raises(ShuttingDown):
            await batcher.submit(2)

    run(story, worker, is_short=short)
