"""64 concurrent calls against the same 64 calls in sequence, for every endpoint that computes.

Times are medians over rounds that alternate between the two ways. /metrics gives the mean batch size of the concurrent
calls.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import time

import numpy as np
import uvloop

from benchmarks.serving.calls import CALLS, calls
from benchmarks.serving.connection import Call, Caller
from benchmarks.serving.contenders import ONE_PROCESS, running
from benchmarks.serving.tables import grid

ROUNDS = 7


async def measure(callers: list[Caller], requests: list[Call], rounds: int) -> tuple[list[float], list[float], bool]:
    """Seconds of each round in sequence and concurrently, and whether both ways gave the same bytes.

    Raises RuntimeError if an answer has another status than 200.
    """
    apart, together = [], []
    alike = True
    for _ in range(rounds):
        start = time.perf_counter()
        first = [await callers[0](request) for request in requests]
        middle = time.perf_counter()
        second = await asyncio.gather(*(caller(request) for caller, request in zip(callers, requests, strict=True)))
        together.append(time.perf_counter() - middle)
        apart.append(middle - start)
        for answer in [*first, *second]:
            if answer.status != 200:
                raise RuntimeError(f"{answer.head!r} {answer.body!r}")
        alike &= [answer.body for answer in first] == [answer.body for answer in second]
    return apart, together, alike


async def batches(caller: Caller, engine: str = "") -> tuple[float, float, float]:
    """Total jobs, batches, and batches of more than one job so far, in the lanes whose names begin with `engine`."""
    lane = f'engine="{engine}'
    text = (await caller(Call("GET", "/metrics"))).body.decode()
    total = {
        name: sum(
            float(value) for value in re.findall(rf"^latentserve_batch_size_{name}{{{lane}.*?}} (\S+)$", text, re.M)
        )
        for name in ("sum", "count")
    }
    single = sum(
        float(value) for value in re.findall(rf'^latentserve_batch_size_bucket{{{lane}.*le="1.0"}} (\S+)', text, re.M)
    )
    return total["sum"], total["count"], total["count"] - single


def table(quick: bool) -> str:
    """Measure one process of the service, and format the results.

    Raises RuntimeError if an answer differs between the two ways, or has another status than 200.
    """
    with running(ONE_PROCESS) as server:
        return uvloop.run(_table(server.port, 3 if quick else ROUNDS))


async def _table(port: int, rounds: int) -> str:
    callers = [Caller(port) for _ in range(CALLS)]
    lines = [["64 calls of", "serial ms", "together ms", "ratio", "mean batch", "batches > 1", "same"]]
    different = []
    for name, requests in calls().items():
        await asyncio.gather(*(caller(request) for caller, request in zip(callers, requests, strict=True)))
        before = await batches(callers[0])
        apart, together, alike = await measure(callers, requests, rounds)
        different += [] if alike else [name]
        jobs, count, several = np.subtract(await batches(callers[0]), before)
        single = rounds * CALLS  # jobs of the sequential calls
        lines.append(
            [
                name,
                f"{statistics.median(apart) * 1e3:.1f}",
                f"{statistics.median(together) * 1e3:.1f}",
                f"{statistics.median(a / b for a, b in zip(apart, together, strict=True)):.2f}",
                f"{(jobs - single) / max(count - single, 1):.1f}",
                f"{several:.0f}",
                "yes" if alike else "NO",
            ]
        )
    if different:
        raise RuntimeError(f"the bytes in a batch differ from the bytes alone: {', '.join(different)}")
    return grid(lines)
