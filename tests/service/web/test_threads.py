"""Operations beside the event loop."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import pytest

from service.runtime.caller import CALLER
from service.web.threads import CORES, FEW_NUMBERS, off_loop, on_thread, share, when_unused


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


def test_what_abandoned_work_uses_is_released_when_it_ends() -> None:
    begun, go, ended = threading.Event(), threading.Event(), asyncio.Event()
    released: list[bool] = []

    def release() -> None:
        released.append(go.is_set())
        ended.set()

    def work() -> None:
        begun.set()
        go.wait(60)
        raise ValueError("as expected")

    async def request() -> None:
        try:
            await on_thread(work)
        finally:
            when_unused(release)

    async def run() -> None:
        task = asyncio.create_task(request())
        assert await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert not released
        go.set()
        await asyncio.wait_for(ended.wait(), 60)
        assert released == [True]

    asyncio.run(run())


def test_work_that_waits_for_a_thread_is_never_begun_once_its_caller_is_gone() -> None:
    go, count = threading.Event(), threading.Semaphore(0)
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        count.release()
        go.wait(60)

    async def run() -> None:
        share(processes=CORES)
        most = 2
        tasks = [asyncio.create_task(on_thread(work, number)) for number in range(most + 1)]
        for _ in range(most):
            assert await asyncio.to_thread(count.acquire, timeout=60)
        tasks[-1].cancel()
        await asyncio.wait([tasks[-1]])
        go.set()
        await asyncio.gather(*tasks[:-1])
        await on_thread(int)
        assert most not in begun

    asyncio.run(run())


def test_what_no_thread_uses_is_released_at_once() -> None:
    async def run() -> list[str]:
        released: list[str] = []
        await on_thread(int)
        when_unused(lambda: released.append("now"))
        return released

    assert asyncio.run(run()) == ["now"]


def test_the_number_of_threads_is_bounded_and_does_not_depend_on_the_load() -> None:
    together = threading.Barrier(2)

    def work() -> int:
        together.wait(60)
        return threading.get_ident()

    async def run() -> None:
        share(processes=CORES)
        found = await asyncio.gather(*(on_thread(work) for _ in range(20)))
        assert len(set(found)) == 2

    asyncio.run(run())


def test_work_runs_in_the_context_of_its_caller() -> None:
    async def run() -> str:
        CALLER.set("a caller")
        return await on_thread(CALLER.get)

    assert asyncio.run(run()) == "a caller"
