"""The gate before an engine that is not ready."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from service.errors import Overloaded, ShuttingDown
from service.runtime.gate import Gate


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


def test_jobs_wait_until_it_opens_and_then_pass_at_once() -> None:
    async def scenario() -> None:
        gate = Gate("the reason", 30, 8)
        waiting = [asyncio.create_task(gate.passed(None)), asyncio.create_task(gate.passed(1000.0))]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        gate.open()
        without, with_deadline = await asyncio.gather(*waiting)
        assert without is None
        assert with_deadline is not None
        assert 0 <= with_deadline <= 1000
        assert await gate.passed(0.5) == 0.5

    run(scenario())


def test_at_its_deadline_a_job_is_told_when_to_come_again() -> None:
    async def scenario() -> None:
        with pytest.raises(Overloaded, match="the reason") as refusal:
            await Gate("the reason", 1000, 8).passed(0.01)
        assert 900 < refusal.value.retry_after <= 1000

    run(scenario())


def test_the_number_of_jobs_that_wait_is_bounded() -> None:
    async def scenario() -> None:
        gate = Gate("the reason", 30, 1)
        first = asyncio.create_task(gate.passed(None))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await gate.passed(None)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        second = asyncio.create_task(gate.passed(None))
        await asyncio.sleep(0)
        gate.open()
        assert await second is None

    run(scenario())


def test_jobs_that_wait_end_when_the_service_stops() -> None:
    async def scenario() -> None:
        gate = Gate("the reason", 30, 8)
        waiting = asyncio.create_task(gate.passed(None))
        await asyncio.sleep(0)
        gate.close()
        with pytest.raises(ShuttingDown):
            await waiting

    run(scenario())
