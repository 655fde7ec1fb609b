"""Operations beside the event loop."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from service.web.threads import FEW_NUMBERS, off_loop, on_thread


def test_an_operation_on_many_numbers_runs_beside_the_event_loop_and_one_on_few_does_not() -> None:
    async def run() -> None:
        assert await off_loop(FEW_NUMBERS, threading.get_ident) == threading.get_ident()
        assert await off_loop(FEW_NUMBERS + 1, threading.get_ident) != threading.get_ident()

    asyncio.run(run())


@pytest.mark.skipif(sys.platform != "linux", reason="only there have threads a priority of their own")
def test_large_bodies_leave_the_processor_to_the_event_loop() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def run() -> tuple[int, int, int]:
        own = priority()
        first, second = await on_thread(priority), await on_thread(priority)
        assert first == second
        return own, first, priority()

    own, beside, after = asyncio.run(run())
    assert own == after
    assert beside > own or own == 19


@pytest.mark.parametrize("numbers", [0, FEW_NUMBERS + 1])
def test_errors_and_results_pass_through(numbers: int) -> None:
    assert asyncio.run(off_loop(numbers, divmod, 7, 2)) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(off_loop(numbers, divmod, 7, 0))
