"""The engine of registration: what it does before a job reaches a lane."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from service.em.cancellation import Flag
from service.em.checks import check
from service.em.engine import EmEngine
from service.em.plan import plan
from service.em.problem import Problem
from service.em.worker import EmWorker, Job, Result
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
            await (em.solve_all([plan(check(POINT))], Flag(), 0.01) if batch else em.solve(POINT, 0.01))

    asyncio.run(asyncio.wait_for(story(), 60))
