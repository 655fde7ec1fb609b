"""Laws of the fair queue, in virtual time: nothing here waits."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Hashable
from typing import Any

import pytest

from service.runtime.flows import size_class
from service.runtime.scheduling import FairQueue


class Job:
    """A job that takes `seconds`."""

    def __init__(self, caller: str, seconds: float, key: Hashable = None, cost: float = 1.0) -> None:
        self.caller = caller
        self.seconds = seconds
        self.key = object() if key is None else key
        self.cost = cost
        self.flow: Any = None


class World:
    """A queue with one worker that is never idle while jobs wait, and its clock. Batches hold `most` jobs."""

    def __init__(self, most: int = 1) -> None:
        self.queue: FairQueue[Job] = FairQueue()
        self.now = 0.0
        self.most = most
        self.done: list[Job] = []
        self.ended: dict[Job, float] = {}

    def put(self, *jobs: Job) -> None:
        for job in jobs:
            self.queue.put(job, job.caller, size_class(job.seconds))

    def step(self, *arriving: Job) -> list[Job]:
        """Run one batch, during which jobs arrive."""
        flow = self.queue.choose()
        assert flow is not None
        batch, parts = self.queue.take(flow, self.most, 1e9)
        seconds = sum(job.seconds for job in batch)
        self.put(*arriving)
        self.now += seconds
        self.queue.charge(parts, seconds)
        self.queue.end(parts)
        self.done += batch
        self.ended |= dict.fromkeys(batch, self.now)
        return batch

    def run(self) -> list[Job]:
        while self.queue.items:
            self.step()
        return self.done

    def wait_of(self, job: Job) -> float:
        """Let `job` arrive while a batch runs: the seconds from the end of this batch until the job begins."""
        self.step(job)
        begin = self.now
        while job not in self.ended:
            self.step()
        return round(self.ended[job] - begin - job.seconds, 9)


def test_jobs_of_one_caller_size_and_key_run_in_order_of_arrival() -> None:
    jobs = [Job("a", 1.0, key=0) for _ in range(100)]
    world = World(most=7)
    world.put(*jobs)
    assert world.run() == jobs


@pytest.mark.parametrize("expensive", [2, 100])
def test_expensive_jobs_of_one_caller_do_not_delay_a_cheap_one_of_another(expensive: int) -> None:
    world = World()
    world.put(*(Job("a", 10.0) for _ in range(expensive)))
    assert world.wait_of(Job("b", 0.001)) == 0.0


@pytest.mark.parametrize("expensive", [2, 100])
def test_expensive_jobs_do_not_delay_a_cheap_one_of_the_same_caller(expensive: int) -> None:
    world = World()
    world.put(*(Job("a", 10.0) for _ in range(expensive)))
    assert world.wait_of(Job("a", 0.001)) == 0.0


def test_a_newcomer_waits_for_at_most_one_batch_of_each_caller_before_it() -> None:
    world = World()
    for caller in range(20):
        world.put(*(Job(f"caller {caller}", 1.0) for _ in range(50)))
    for _ in range(130):
        world.step()
    assert world.wait_of(Job("new", 1.0)) <= 20.0


def test_callers_share_the_seconds_equally_whatever_their_jobs_cost() -> None:
    world = World(most=8)
    costs = {"a": 0.01, "b": 0.1, "c": 1.0}
    for caller, seconds in costs.items():
        world.put(*(Job(caller, seconds, key=caller) for _ in range(20_000 if seconds < 0.1 else 3000)))
    while world.now < 300:
        world.step()
    had: Counter[str] = Counter()
    for job in world.done:
        had[job.caller] += job.seconds  # type: ignore[assignment]
    assert all(abs(seconds - 100) <= 8 for seconds in had.values())  # a batch of "c" takes 8 seconds
    assert set(had) == set(costs)


def test_a_caller_that_was_idle_earns_no_credit() -> None:
    world = World()
    world.put(Job("b", 1.0), *(Job("a", 1.0) for _ in range(1000)))
    for _ in range(500):
        world.step()
    world.put(*(Job("b", 1.0) for _ in range(200)))
    begin = len(world.done)
    for _ in range(100):
        world.step()
    had = Counter(job.caller for job in world.done[begin:])
    assert abs(had["a"] - had["b"]) <= 2


def test_a_caller_that_sends_one_job_at_a_time_has_no_more_than_its_share() -> None:
    world = World()
    world.put(*(Job("a", 1.0) for _ in range(100)), Job("b", 10.0))
    while "a" in (job.caller for job in world.queue):
        if not world.queue.has_jobs_of("b"):
            world.put(Job("b", 10.0))
        world.step()
    had = Counter(job.caller for job in world.done)
    assert abs(10 * had["b"] - had["a"]) <= 20


def test_new_callers_cannot_keep_a_caller_waiting_for_ever() -> None:
    world = World()
    heavy = Job("a", 10.0)
    world.put(Job("a", 10.0), heavy)
    world.step()
    for number in range(10_000):
        world.put(Job(f"new {number}", 0.1), Job(f"other {number}", 0.1))
        world.step()
        if heavy in world.ended:
            break
    assert heavy in world.ended
    assert world.now < 100


def test_a_batch_is_filled_from_other_callers_and_each_is_charged_its_part() -> None:
    world = World(most=10)
    world.put(*(Job("a", 1.0, key=0) for _ in range(4)), *(Job("b", 1.0, key=0) for _ in range(100)))
    assert [job.caller for job in world.step()] == ["a"] * 4 + ["b"] * 6
    world.put(*(Job("a", 1.0, key=1) for _ in range(10)))
    assert {job.caller for job in world.step()} == {"a"}  # "a" has had 4 seconds, and "b" 6


def test_a_large_job_does_not_fill_the_batch_of_a_small_one_but_the_reverse() -> None:
    world = World(most=10)
    small, large = [Job("a", 0.01, key=0), Job("b", 0.01, key=0)], Job("a", 10.0, key=0)
    world.put(large, *small)
    assert world.step() == small
    world.put(*small)
    assert world.step() == [large, *small]  # the flow of the large job has had less


def test_everything_ends_and_nothing_is_left() -> None:
    rng = random.Random(0)
    world = World(most=5)
    jobs = [Job(f"c{rng.randrange(40)}", 10 ** rng.uniform(-4, 1), key=rng.randrange(6)) for _ in range(3000)]
    removed = set()
    for job in jobs:
        world.put(job)
        if rng.random() < 0.4:
            world.step()
        if rng.random() < 0.2 and world.queue.discard(found := rng.choice(jobs[: jobs.index(job) + 1])):
            removed.add(found)
    world.run()
    assert sorted(map(id, world.done)) == sorted(id(job) for job in jobs if job not in removed)
    queue = world.queue
    assert (queue.items, queue.cost) == (0, 0.0)
    assert not [*queue.flows()]
    assert not queue._callers
    assert not queue._sharing


def test_a_paused_batch_takes_turns_with_the_jobs_of_others() -> None:
    """A long batch in slices of 1 second: the job of another caller runs after the first slice."""
    queue: FairQueue[Job] = FairQueue()
    long, other = Job("a", 100.0), Job("b", 1.0)
    queue.put(long, "a", 3)
    flow = queue.choose()
    assert flow is not None
    _, parts = queue.take(flow, 1, 1.0)
    queue.put(other, "b", 0)
    queue.put(Job("a", 100.0), "a", 3)
    queue.charge(parts, 1.0)
    flow.paused = True
    second = queue.choose()
    assert second is other.flow
    assert queue.choose(below=-math.inf) is flow  # without a thread for it, the other job waits
    _, others = queue.take(second, 1, 1.0)
    queue.charge(others, 1.0)
    queue.end(others)
    assert queue.choose() is flow  # the next job of the same flow waits for the one that has begun


def test_the_work_ahead_of_a_caller_does_not_include_what_others_have_queued_beyond_its_share() -> None:
    queue: FairQueue[Job] = FairQueue()
    for _ in range(100):
        queue.put(Job("a", 1.0), "a", 1)
    for _ in range(3):
        queue.put(Job("b", 1.0), "b", 1)
    seconds = {"a": 100.0, "b": 3.0}
    assert queue.ahead("a", 1, lambda flow: seconds[flow.caller.name]) == 103.0
    assert queue.ahead("b", 1, lambda flow: seconds[flow.caller.name]) == 6.0
    assert queue.ahead("c", 1, lambda flow: seconds[flow.caller.name]) == 0.0


@pytest.mark.parametrize("size", [0, 1, 1e-300, 1e300, 2**40])
def test_sizes_of_one_class_differ_by_less_than_a_factor_of_four(size: float) -> None:
    assert size_class(size * 4) == size_class(size) + (size > 0)
