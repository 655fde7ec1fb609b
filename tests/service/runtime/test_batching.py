"""Laws of the Batcher's batches: which jobs share one, and that a bad job fails alone."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest

from service.errors import DeadlineExceeded, InvalidInput, OutOfMemory, Overloaded, WorkerFailed
from service.runtime.batching import Batcher, Limits
from tests.service.runtime.batchers import Gate, Recorder, run, until


def test_jobs_that_arrive_together_share_a_batch() -> None:
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


def test_a_batch_stays_within_its_limits_and_a_job_over_the_limit_runs_alone() -> None:
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


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("poisoned", [{0}, {63}, {17}, {3, 4, 40}, set(range(64))])
def test_a_job_that_breaks_the_worker_fails_alone(poisoned: set[int], short: bool) -> None:
    def worker(jobs: list[int]) -> list[int]:
        if poisoned & set(jobs):
            raise ZeroDivisionError("poison")
        return [10 * job for job in jobs]

    async def story(batcher: Batcher[int, int]) -> None:
        outcomes = await asyncio.gather(*map(batcher.submit, range(64)), return_exceptions=True)
        for job, outcome in enumerate(outcomes):
            assert isinstance(outcome, WorkerFailed) if job in poisoned else outcome == 10 * job
        assert await batcher.submit(1000) == 10000  # the worker still runs

    assert len(run(story, worker, is_short=lambda _: short).errors) == len(poisoned)


def test_the_event_loop_runs_short_batches_and_a_thread_all_others() -> None:
    threads: dict[int, str] = {}

    def worker(jobs: list[int]) -> list[int]:
        threads.update(dict.fromkeys(jobs, threading.current_thread().name))
        return jobs

    async def story(batcher: Batcher[int, int]) -> None:
        assert await asyncio.gather(*map(batcher.submit, (1, 2))) == [1, 2]
        assert await asyncio.gather(*map(batcher.submit, (3, 40))) == [3, 40]
        assert await batcher.submit(5) == 5

    assert run(story, worker, is_short=lambda jobs: max(jobs) < 10).sizes == [2, 2, 1]
    loop = threading.current_thread().name
    assert threads == {1: loop, 2: loop, 3: "batcher-test", 40: "batcher-test", 5: loop}


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_an_exit_exception_does_not_end_the_worker(error: BaseException, short: bool) -> None:
    def worker(jobs: list[int]) -> list[int]:
        if 0 in jobs:
            raise error
        return jobs

    async def story(batcher: Batcher[int, int]) -> None:
        with pytest.raises(WorkerFailed):
            await batcher.submit(0)
        assert await batcher.submit(1) == 1

    run(story, worker, is_short=lambda _: short)


def test_an_observer_that_fails_costs_no_job_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Recorder, "failed", fail)

    def worker(jobs: list[int]) -> list[int]:
        if 3 in jobs:
            raise ValueError("poison")
        return jobs

    async def story(batcher: Batcher[int, int]) -> None:
        outcomes = await asyncio.gather(*map(batcher.submit, range(8)), return_exceptions=True)
        assert isinstance(outcomes.pop(3), WorkerFailed)
        assert outcomes == [0, 1, 2, 4, 5, 6, 7]

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


def test_out_of_memory_halves_the_batch_until_it_fits() -> None:
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


def test_a_worker_that_returns_the_wrong_number_of_results_fails_its_jobs_and_continues() -> None:
    async def story(batcher: Batcher[int, int]) -> None:
        outcomes = await asyncio.gather(*map(batcher.submit, range(4)), return_exceptions=True)
        assert all(isinstance(outcome, WorkerFailed) for outcome in outcomes)

    run(story, lambda jobs: [])


def test_every_job_ends() -> None:
    """1,000 jobs of random cost and key, some poisoned, cancelled or with deadlines: each ends with its own outcome."""
    rng = random.Random(0)

    def worker(jobs: list[int]) -> list[int]:
        if any(job % 13 == 0 for job in jobs):
            raise ValueError("poison")
        return [10 * job for job in jobs]

    async def story(batcher: Batcher[int, int]) -> None:
        tasks = []
        for job in range(1, 1001):
            timeout = rng.choice([None, None, 0.001, 5.0])
            tasks.append(asyncio.create_task(batcher.submit(job, timeout)))
            if rng.random() < 0.1:
                rng.choice(tasks).cancel()
            if rng.random() < 0.2:
                await asyncio.sleep(0.0005)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        kinds = (WorkerFailed, Overloaded, DeadlineExceeded, asyncio.CancelledError)
        for job, outcome in enumerate(outcomes, start=1):
            assert isinstance(outcome, kinds) or (outcome == 10 * job and job % 13)
        assert sum(isinstance(outcome, int) for outcome in outcomes) > 100

    recorder = run(story, worker, key=lambda job: job % 3, cost=lambda job: job % 7 + 1)
    assert recorder.queue[-1] == (0, 0.0)
    assert max(recorder.sizes) > 1
