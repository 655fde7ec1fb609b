"""Laws of the Batcher: every job ends, one bad job never spoils its batch-mates, the queue is bounded."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from service.errors import DeadlineExceeded, InvalidInput, OutOfMemory, Overloaded, ShuttingDown, WorkerFailed
from service.runtime import batching
from service.runtime.batching import Batcher, Limits
from service.runtime.observer import SilentObserver

WIDE = Limits(batch_items=64, batch_cost=64, queue_items=1000, queue_cost=1000)


class Recorder(SilentObserver):
    """Keeps what a Batcher tells."""

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
    """A worker that answers 10 x job, and holds every batch until it is opened."""

    def __init__(self, is_open: bool = False) -> None:
        self.event = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[int]] = []
        if is_open:
            self.event.set()

    def __call__(self, jobs: list[int]) -> list[int]:
        self.batches.append(list(jobs))
        self.entered.set()
        assert self.event.wait(10)
        return [10 * job for job in jobs]


def run(story: Callable[[Batcher[int, int]], Coroutine[Any, Any, None]], worker: Any, **options: Any) -> Recorder:
    """Tell `story` to a started Batcher, and close it."""
    recorder = Recorder()

    async def main() -> None:
        batcher: Batcher[int, int] = Batcher(
            "test", worker, limits=options.pop("limits", WIDE), observer=recorder, **options
        )
        batcher.start()
        try:
            await asyncio.wait_for(story(batcher), 20)
        finally:
            if isinstance(worker, Gate):
                worker.event.set()
            await batcher.close(5)

    asyncio.run(main())
    return recorder


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


def test_jobs_that_arrive_together_leave_together() -> None:
    async def story(batcher: Batcher[int, int]) -> None:
        assert await asyncio.gather(*map(batcher.submit, range(50))) == [10 * job for job in range(50)]

    assert run(story, Gate(is_open=True)).sizes == [50]


def test_the_next_batch_forms_while_one_runs() -> None:
    gate = Gate()

    async def story(batcher: Batcher[int, int]) -> None:
        first = asyncio.create_task(batcher.submit(0))
        await until(gate.entered.is_set)
        rest = [asyncio.create_task(batcher.submit(job)) for job in range(1, 9)]
        await asyncio.sleep(0.01)
        gate.event.set()
        assert await asyncio.gather(first, *rest) == [10 * job for job in range(9)]

    run(story, gate)
    assert gate.batches == [[0], list(range(1, 9))]


def test_a_batch_stays_within_its_budgets_and_a_job_over_the_budget_runs_alone() -> None:
    gate = Gate()

    async def story(batcher: Batcher[int, int]) -> None:
        blocker = asyncio.create_task(batcher.submit(1))
        await until(gate.entered.is_set)
        rest = [asyncio.create_task(batcher.submit(job)) for job in (4, 4, 4, 50, 2, 1, 1, 1)]
        await asyncio.sleep(0.01)
        gate.event.set()
        await asyncio.gather(blocker, *rest)

    run(story, gate, limits=Limits(3, 10, 100, 1000), cost=float)
    assert gate.batches == [[1], [4, 4], [4], [50], [2, 1, 1], [1]]


def test_only_equal_keys_share_a_batch_and_keys_take_turns() -> None:
    gate = Gate()

    async def story(batcher: Batcher[int, int]) -> None:
        blocker = asyncio.create_task(batcher.submit(0))
        await until(gate.entered.is_set)
        rest = [asyncio.create_task(batcher.submit(job)) for job in (2, 4, 6, 8, 10, 1, 3)]
        await asyncio.sleep(0.01)
        gate.event.set()
        await asyncio.gather(blocker, *rest)

    run(story, gate, limits=Limits(2, 100, 100, 100), key=lambda job: job % 2)
    assert gate.batches == [[0], [2, 4], [1, 3], [6, 8], [10]]


@pytest.mark.parametrize("poisoned", [{0}, {63}, {17}, {3, 4, 40}, set(range(64))])
def test_a_job_that_breaks_the_worker_fails_alone(poisoned: set[int]) -> None:
    def worker(jobs: list[int]) -> list[int]:
        if poisoned & set(jobs):
            raise ZeroDivisionError("poison")
        return [10 * job for job in jobs]

    async def story(batcher: Batcher[int, int]) -> None:
        outcomes = await asyncio.gather(*map(batcher.submit, range(64)), return_exceptions=True)
        for job, outcome in enumerate(outcomes):
            assert isinstance(outcome, WorkerFailed) if job in poisoned else outcome == 10 * job
        assert await batcher.submit(1000) == 10000  # the worker outlives them all

    assert len(run(story, worker).errors) == len(poisoned)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_not_even_an_exit_ends_the_worker(error: BaseException) -> None:
    def worker(jobs: list[int]) -> list[int]:
        if 0 in jobs:
            raise error
        return jobs

    async def story(batcher: Batcher[int, int]) -> None:
        with pytest.raises(WorkerFailed):
            await batcher.submit(0)
        assert await batcher.submit(1) == 1

    run(story, worker)


def test_an_error_returned_for_one_job_fails_that_job_without_a_second_run() -> None:
    calls = []

    def worker(jobs: list[int]) -> list[int | Exception]:
        calls.append(len(jobs))
        return [InvalidInput(f"{job} is odd") if job % 2 else job for job in jobs]

    async def story(batcher: Batcher[int, int]) -> None:
        outcomes = await asyncio.gather(*map(batcher.submit, range(8)), return_exceptions=True)
        assert [outcome for outcome in outcomes if not isinstance(outcome, InvalidInput)] == [0, 2, 4, 6]

    assert run(story, worker).errors == []
    assert calls == [8]


def test_out_of_memory_halves_until_it_fits() -> None:
    largest = []

    def worker(jobs: list[int]) -> list[int]:
        if len(jobs) > 10 or 7 in jobs:
            raise MemoryError
        largest.append(len(jobs))
        return jobs

    async def story(batcher: Batcher[int, int]) -> None:
        outcomes = await asyncio.gather(*map(batcher.submit, range(64)), return_exceptions=True)
        assert isinstance(outcomes.pop(7), OutOfMemory)
        assert outcomes == [job for job in range(64) if job != 7]

    run(story, worker)
    assert max(largest) == 8


def test_a_worker_that_returns_the_wrong_number_of_results_fails_the_jobs_and_lives() -> None:
    async def story(batcher: Batcher[int, int]) -> None:
        outcomes = await asyncio.gather(*map(batcher.submit, range(4)), return_exceptions=True)
        assert all(isinstance(outcome, WorkerFailed) for outcome in outcomes)

    run(story, lambda jobs: [])


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


def test_the_queue_is_bounded_in_cost_and_says_when_to_come_back() -> None:
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
    gate = Gate()
    cancelled: list[int] = []

    async def story(batcher: Batcher[int, int]) -> None:
        # Long enough that the worker has begun, on a busy machine too.
        running = asyncio.create_task(batcher.submit(0, timeout=0.5))
        await until(gate.entered.is_set)
        queued = asyncio.create_task(batcher.submit(1, timeout=0.5))
        for task in (running, queued):
            with pytest.raises(DeadlineExceeded):
                await task
        gate.event.set()
        assert await batcher.submit(2) == 20

    run(story, gate, cancel=cancelled.append)
    assert gate.batches == [[0], [2]]
    assert sorted(cancelled) == [0, 1]


def test_a_job_that_cannot_make_its_deadline_is_refused_on_arrival() -> None:
    def worker(jobs: list[int]) -> list[int]:
        time.sleep(0.05)
        return jobs

    async def story(batcher: Batcher[int, int]) -> None:
        await batcher.submit(0)  # teaches the pace: 50 ms a job
        waiting = [asyncio.create_task(batcher.submit(job)) for job in range(20)]
        await asyncio.sleep(0.01)
        ended = sum(task.done() for task in waiting)
        with pytest.raises(Overloaded, match="longer than"):
            await batcher.submit(21, timeout=0.1)
        # The refusal takes no turn of the event loop, in which a batch could end.
        assert sum(task.done() for task in waiting) == ended
        await asyncio.gather(*waiting)

    run(story, worker, limits=Limits(1, 1, 100, 100))


def test_closing_finishes_what_is_queued_and_takes_nothing_new() -> None:
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


def test_closing_fails_what_does_not_finish_in_time() -> None:
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


def test_a_batch_that_hangs_shows_in_is_alive() -> None:
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


def test_one_slow_batch_does_not_make_the_queue_look_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, gate = [0.0], Gate(is_open=True)
    monkeypatch.setattr(batching, "time", SimpleNamespace(monotonic=time.monotonic, perf_counter=lambda: clock[0]))

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


def test_every_job_ends_whatever_happens() -> None:
    """A thousand jobs of random cost and key, some poisoned, cancelled or hurried: each ends with its own outcome."""
    dice = random.Random(0)

    def worker(jobs: list[int]) -> list[int]:
        if any(job % 13 == 0 for job in jobs):
            raise ValueError("poison")
        return [10 * job for job in jobs]

    async def story(batcher: Batcher[int, int]) -> None:
        tasks = []
        for job in range(1, 1001):
            timeout = dice.choice([None, None, 0.001, 5.0])
            tasks.append(asyncio.create_task(batcher.submit(job, timeout)))
            if dice.random() < 0.1:
                dice.choice(tasks).cancel()
            if dice.random() < 0.2:
                await asyncio.sleep(0.0005)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        kinds = (WorkerFailed, Overloaded, DeadlineExceeded, asyncio.CancelledError)
        for job, outcome in enumerate(outcomes, start=1):
            assert isinstance(outcome, kinds) or (outcome == 10 * job and job % 13)
        assert sum(isinstance(outcome, int) for outcome in outcomes) > 100

    recorder = run(story, worker, key=lambda job: job % 3, cost=lambda job: job % 7 + 1)
    assert recorder.queue[-1] == (0, 0.0)
    assert max(recorder.sizes) > 1
