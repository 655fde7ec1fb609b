"""The threads that decode bodies and encode answers, beside the event loop, which goes first."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from ..runtime.priority import lower

# One thread for each core: more threads would only hold more clouds and pictures in memory.
CORES = os.cpu_count() or 1
THREADS = CapacityLimiter(CORES)

ResultT = TypeVar("ResultT")
# How much the threads lower their priority. Beside two clients of large bodies, the 99th percentile of small requests
# falls to half. With 10, as lanes with long jobs have, large bodies come to a third less where small ones are many.
_NICE = 5
# Array operations on more numbers take milliseconds.
FEW_NUMBERS = 1 << 16


def share(processes: int) -> None:
    """Leave this process its share of the threads, where several processes serve. At least two remain."""
    THREADS.total_tokens = max(2, math.ceil(CORES / processes))


async def on_thread(function: Callable[..., ResultT], *arguments: Any) -> ResultT:
    """`function(*arguments)` on one of the threads."""
    return await to_thread.run_sync(_lowered, function, arguments, limiter=THREADS)


async def off_loop(numbers: int, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
    """`function(*arguments)`, on a thread if it handles more than FEW_NUMBERS `numbers`."""
    if numbers <= FEW_NUMBERS:
        return function(*arguments)
    return await on_thread(function, *arguments)


def _lowered(function: Callable[..., ResultT], arguments: tuple[Any, ...]) -> ResultT:
    if not getattr(_local, "is_lowered", False):  # a thread serves one request after the other
        lower(_NICE)
        _local.is_lowered = True
    return function(*arguments)


_local = threading.local()
