"""The engine of registration: what it does before a job reaches a lane."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from service.em import cancellation
from service.em.cancellation import Flag, unfinished
from service.em.checks import check
from service.em.choices import Transform
from service.em.engine import CHUNK_BATCHES, EmEngine
from service.em.outcome import Outcome
from service.em.plan import Plan, plan
from service.em.problem import Problem
from service.em.register import register_plans
from service.em.worker import ChunkResult, EmWorker, Job, RegisterChunk, Result, registration
from service.errors import DeadlineExceeded, Overloaded
from service.runtime.batching import Batcher, Limits
from service.runtime.gate import Gate

POINT = Problem(np.zeros((1, 1)), np.zeros((1, 1)))


def engine(registrations: Gate) -> EmEngine:
    """An engine whose lanes were not started, so that a job which reaches one fails."""
    lane: Batcher[Job, Result] = Batcher("em", EmWorker(), limits=Limits(1, 1.0, 1, 1.0))
    return EmEngine(lane, lane, 1e9, 1e9, registrations)


@pytest.mark.parametrize("batch", [False, True])
def test_registrations_wait_until_their_loops_are_compiled(batch: bool) -> None:
    async def story() -> None:
        em = engine(Gate("the reason", 30, 8))
        with pytest.raises(Overloaded, match="the reason"):
            await (em.solve_all([plan(check(POINT))], Flag(), 0.01) if batch else em.solve(registration(POINT), 0.01))

    asyncio.run(asyncio.wait_for(story(), 60))


@pytest.mark.parametrize("in_a_chunk", [False, True])
@pytest.mark.parametrize("transform", ["translation", "rigid"])
def test_a_registration_gives_way_to_others_at_least_once_an_iteration(
    transform: Transform, in_a_chunk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "give_way", give_way := Mock())
    rng = np.random.default_rng(0)
    job = registration(
        Problem(rng.normal(size=(20, 2)), rng.normal(size=(20, 2)), transform=transform, max_iterations=50, tolerance=0)
    )
    EmWorker()([RegisterChunk([job.plan], object(), job.plan.cost, job.abandoned, 1, []) if in_a_chunk else job])
    assert give_way.call_count >= 50


class Lane:
    """A lane that keeps its jobs. Each computes its first batch, and is then late and stops the second one."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.jobs: list[RegisterChunk] = []

    async def submit(self, job: RegisterChunk, timeout: float | None) -> ChunkResult:
        self.jobs.append(job)
        job.done.extend(register_plans(job.plans[: job.together]))
        job.done.extend(unfinished(one.problem) for one in job.plans[job.together : 2 * job.together])
        raise DeadlineExceeded("late")


async def solved(lane: Lane, plans: list[Plan]) -> ChunkResult:
    """The results of plans in a lane for small registrations."""
    open_gate = Gate("", 30, 8)
    open_gate.open()
    batcher: Any = lane
    return await EmEngine(batcher, batcher, 1e9, 1e9, open_gate).solve_all(plans, Flag(), 1.0)


def points(count: int) -> Plan:
    """A translation of as many points, which costs their square rounded up to multiples of 8."""
    cloud = np.random.default_rng(count).normal(size=(count, 2))
    return plan(check(Problem(cloud, cloud + 1.0)))


@pytest.mark.parametrize("count", [1, 7, 8, 64, 65, 200])
def test_alike_problems_are_divided_into_few_jobs_and_batches_of_equal_size(count: int) -> None:
    lane = Lane(Limits(batch_items=256, batch_cost=8.5 * 64, queue_items=10, queue_cost=1e9))
    asyncio.run(solved(lane, [points(8)] * count))
    sizes = [len(job.plans) for job in lane.jobs]
    assert sum(sizes) == count
    assert len(sizes) == -(-count // (8 * CHUNK_BATCHES))
    assert max(sizes) - min(sizes) <= 1
    for job in lane.jobs:
        assert job.together <= 8  # as many as a batch may cost
        assert job.together == -(-len(job.plans) // -(-len(job.plans) // 8))
        assert job.cost == 64 * len(job.plans)


def test_after_the_deadline_a_batch_has_the_results_that_were_computed_before_it() -> None:
    lane = Lane(Limits(batch_items=4, batch_cost=1e9, queue_items=10, queue_cost=1e9))
    plans = [points(7 + place % 2) for place in range(12)]
    found = asyncio.run(solved(lane, plans))
    (job,) = lane.jobs
    assert job.together == 4
    for planned, one in zip(plans[:4], found, strict=False):
        assert isinstance(one, Outcome)
        assert np.array_equal(one.translation, register_plans([planned])[0].translation)
    assert all(isinstance(one, DeadlineExceeded) for one in found[4:])
