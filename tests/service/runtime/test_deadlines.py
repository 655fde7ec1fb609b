"""Laws of the Batcher's queue: bounds, cancellation, deadlines, closing, and stalled batches."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest

from service.errors import DeadlineExceeded, Overloaded, ShuttingDown
from service.runtime import lane_threads
from service.runtime.batching import Batcher, Limits
from tests.service.runtime.batchers import WIDE, Gate, run, until


def test_a_cancelled_job_leaves_the_queue_and_its_place_is_free_at_once() -> None:
    gate = Gate()
    cancelled: list[int] = []

    async def story(batcher: Batcher[int, int]) -> None:
        blocker = asyncio.create_task(batcher.submit(0))
        await until(gate.entered.is_set)
        full = [asyncio.create_task(batcher.submit(job)) for job in (1, 2, 3)]
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded):
            await batcher.submit(4)
        full[1].cancel()
        await asyncio.wait([full[1]])
        late = asyncio.create_task(batcher.submit(5))
        await asyncio.sleep(0.01)
        gate.event.set()
        assert list(await asyncio.gather(blocker, full[0], full[2], late)) == [0, 10, 30, 50]

    run(story, gate, limits=Limits(8, 8, 3, 100), cancel=cancelled.append)
    assert gate.batches == [[0], [1, 3, 5]]
    assert cancelled == [2]


def test_the_queue_is_bounded_in_cost_and_the_error_has_a_retry_time() -> None:
    gate = Gate()

    async def story(batcher: Batcher[int, int]) -> None:
        tasks = [asyncio.create_task(batcher.submit(1))]
        await until(gate.entered.is_set)
        tasks += [asyncio.create_task(batcher.submit(40)), asyncio.create_task(batcher.submit(60))]
        await asyncio.sleep(0.01)
        with pytest.raises(Overloaded) as refusal:
            await batcher.submit(1)
        assert refusal.value.retry_after >= 0
        gate.event.set()
        await asyncio.gather(*tasks)

    recorder = run(story, gate, limits=Limits(8, 100, 100, 100), cost=float)
    assert max(cost for _, cost in recorder.queue) == 100
    assert recorder.queue[-1] == (0, 0.0)


def test_a_deadline_ends_a_queued_and_a_running_job() -> None:
    gate = Gate(is_open=True)
    cancelled: list[int] = []

    async def story(batcher: Batcher[int, int]) -> None:
        await batcher.submit(9)  # from now on the worker's thread runs, and starts a job at once
        gate.event.clear()
        gate.entered.clear()
        running = asyncio.create_task(batcher.submit(0, timeout=0.5))
        await until(gate.entered.is_set)
        queued = asyncio.create_task(batcher.submit(1, timeout=0.5))
        for task in (running, queued):
            with pytest.raises(DeadlineExceeded):
                await task
        gate.event.set()
        assert await batcher.submit(2) == 20

    run(story, gate, cancel=cancelled.append)
    assert gate.batches == [[9], [0], [2]]
    assert sorted(cancelled) == [0, 1]


def test_a_timeout_of_zero_is_a_deadline_and_none_is_not() -> None:
    gate = Gate()

    async def story(batcher: Batcher[int, int]) -> None:
        with pytest.raises(DeadlineExceeded):
            await batcher.submit(0, timeout=0)
        waiting = asyncio.create_task(batcher.submit(1, timeout=None))
        gate.event.set()
        assert await waiting == 10

    run(story, gate)


def test_a_job_that_cannot_meet_its_deadline_is_refused_on_arrival() -> None:
    gate = Gate(is_open=True)

    def worker(jobs: list[int]) -> list[int]:
        time.sleep(0.05)
        return gate(jobs)

    async def story(batcher: Batcher[int, int]) -> None:
        await batcher.submit(0)  # from now on the batcher predicts at least 50 ms per job
        gate.event.clear()
        waiting = [asyncio.create_task(batcher.submit(job)) for job in range(20)]
        await asyncio.sleep(0)
        assert batcher.predicted_wait() >= 19 * 0.05
        with pytest.raises(Overloaded, match="too long for"):
            batcher.submit(21, timeout=0.1).send(None)  # raises before the event loop takes a turn
        gate.event.set()
        await asyncio.gather(*waiting)

    run(story, worker, limits=Limits(1, 1, 100, 100))


def test_one_slow_batch_hardly_raises_the_predicted_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, gate = [0.0], Gate(is_open=True)
    monkeypatch.setattr(lane_threads, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def worker(jobs: list[int]) -> list[int]:
        clock[0] += jobs[0]
        return gate(jobs)

    async def story(batcher: Batcher[int, int]) -> None:
        for seconds in (1, 1, 100, 1, 1):
            await batcher.submit(seconds)
        gate.event.clear()
        gate.entered.clear()
        tasks = [asyncio.create_task(batcher.submit(1))]
        await until(gate.entered.is_set)
        tasks.append(asyncio.create_task(batcher.submit(1)))
        await asyncio.sleep(0)  # the second job is queued
        # One batch is running and one is queued. Each takes a second, and the slow one counts as two.
        assert 1 <= batcher.predicted_wait() < 4
        gate.event.set()
        await asyncio.gather(*tasks)

    run(story, worker)


def test_closing_finishes_queued_jobs_and_refuses_new_ones() -> None:
    gate = Gate()

    async def story(batcher: Batcher[int, int]) -> None:
        tasks = [asyncio.create_task(batcher.submit(job)) for job in range(3)]
        await until(gate.entered.is_set)
        tasks.append(asyncio.create_task(batcher.submit(3)))
        await asyncio.sleep(0.01)
        closing = asyncio.create_task(batcher.close(5))
        await asyncio.sleep(0.01)
        with pytest.raises(ShuttingDown):
            await batcher.submit(4)
        gate.event.set()
        assert await asyncio.gather(*tasks) == [0, 10, 20, 30]
        await closing

    run(story, gate)


def test_closing_fails_jobs_that_do_not_finish_in_time() -> None:
    gate = Gate()

    async def story(batcher: Batcher[int, int]) -> None:
        running = asyncio.create_task(batcher.submit(0))
        await until(gate.entered.is_set)
        queued = asyncio.create_task(batcher.submit(1))
        await asyncio.sleep(0.01)
        closing = asyncio.create_task(batcher.close(0.05))
        outcomes = await asyncio.gather(running, queued, return_exceptions=True)
        assert all(isinstance(outcome, ShuttingDown) for outcome in outcomes)
        gate.event.set()
        await closing

    run(story, gate)


def test_a_batcher_with_a_stalled_batch_is_not_alive() -> None:
    gate = Gate()

    async def story(batcher: Batcher[int, int]) -> None:
        assert batcher.is_alive()
        task = asyncio.create_task(batcher.submit(0))
        await until(gate.entered.is_set)
        await until(lambda: not batcher.is_alive())
        gate.event.set()
        await task
        assert batcher.is_alive()

    run(story, gate, stall_seconds=0.02)


@pytest.mark.parametrize(("items", "cost"), [(2, 0.0), (1, 1000.0)])
def test_the_limits_of_the_queue_cover_what_waits_elsewhere(items: int, cost: float) -> None:
    elsewhere = [(items, cost)]

    async def story(batcher: Batcher[int, int]) -> None:
        with pytest.raises(Overloaded, match=f"{items} jobs wait"):
            await batcher.submit(1)
        elsewhere[0] = (0, 0.0)
        assert await batcher.submit(1) == 10

    limits = WIDE._replace(queue_items=2, queue_cost=10)
    run(story, Gate(is_open=True), limits=limits, elsewhere=lambda: elsewhere[0])


def test_under_overload_the_worker_does_nothing_in_vain() -> None:
    """Of ten times the jobs that it can do, it begins only those that it can end in time."""
    seconds, timeout = 0.02, 0.4
    begun = 0

    def worker(jobs: list[int]) -> list[int]:
        nonlocal begun
        begun += 1
        time.sleep(seconds)
        return jobs

    async def story(batcher: Batcher[int, int]) -> None:
        await batcher.submit(0)
        outcomes = await asyncio.gather(*(batcher.submit(job, timeout) for job in range(200)), return_exceptions=True)
        done = sum(not isinstance(outcome, BaseException) for outcome in outcomes)
        refused = sum(isinstance(outcome, Overloaded) for outcome in outcomes)
        # A job takes at least `seconds`, however slow the machine is.
        assert refused >= 200 - 0.8 * timeout / seconds
        assert begun - 1 <= timeout / seconds
        assert done + refused + sum(isinstance(outcome, DeadlineExceeded) for outcome in outcomes) == 200

    run(story, worker, limits=Limits(1, 1, 1000, 1000))
