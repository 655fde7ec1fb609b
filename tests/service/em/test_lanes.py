"""The engine of registration: what it does before a job reaches a lane."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import numpy as np
import pytest

from service.em import cancellation
from service.em.cancellation import Flag
from service.em.checks import check
from service.em.choices import Transform
from service.em.engine import EmEngine
from service.em.plan import plan
from service.em.problem import Problem
from service.em.worker import EmWorker, Job, RegisterChunk, Result, registration
from service.errors import Overloaded
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
    EmWorker()([RegisterChunk([job.plan], object(), job.plan.cost, job.abandoned) if in_a_chunk else job])
    assert give_way.call_count >= 50
