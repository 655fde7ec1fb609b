"""The threads that decode bodies and encode answers, beside the event loop."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

# One thread for each core: more threads would only hold more clouds and pictures in memory.
CORES = os.cpu_count() or 1
THREADS = CapacityLimiter(CORES)

ResultT = TypeVar("ResultT")
# Array operations on more numbers take milliseconds.
FEW_NUMBERS = 1 << 16


def share(processes: int) -> None:
    """Leave this process its share of the threads, where several processes serve. At least two remain."""
    THREADS.total_tokens = max(2, math.ceil(CORES / processes))


async def off_loop(numbers: int, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
    """`function(*arguments)`, on a thread if it handles more than FEW_NUMBERS `numbers`."""
    if numbers <= FEW_NUMBERS:
        return function(*arguments)
    return await to_thread.run_sync(function, *arguments, limiter=THREADS)
