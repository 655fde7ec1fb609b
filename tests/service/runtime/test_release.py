"""Nothing keeps what a job took once it has ended. The garbage collector may come late, and jobs may be large."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Iterator

import pytest

from service.runtime.batching import Batcher
from service.runtime.turns import give_way
from tests.service.runtime.batchers import WIDE


class Part:
    """A job or a result."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Bad(Part):
    """A job that breaks the worker."""


def worker(jobs: list[Part]) -> list[Part]:
    give_way()
    if any(isinstance(job, Bad) for job in jobs):
        raise ValueError("a bad job")
    return [Part() for _ in jobs]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("end", ["result", "error", "deadline", "cancellation"])
def test_a_job_that_has_ended_is_released_with_its_result(threads: int, short: bool, end: str) -> None:
    async def main() -> None:
        batcher: Batcher[Part, Part] = Batcher("test", worker, limits=WIDE, is_short=lambda _: short, threads=threads)
        batcher.start()
        kept: list[weakref.ref[Part]] = []

        async def ask() -> None:
            job = Bad() if end == "error" else Part()
            kept.append(weakref.ref(job))
            kept.append(weakref.ref(await batcher.submit(job, 0.0 if end == "deadline" else None)))

        for _ in range(3):
            task = asyncio.create_task(ask())
            if end == "cancellation":
                await asyncio.sleep(0)
                task.cancel()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await task
            del task
        async with asyncio.timeout(60):
            while any(part() is not None for part in kept):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        await batcher.close(60)

    asyncio.run(main())
