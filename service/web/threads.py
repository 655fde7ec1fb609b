"""The threads that decode bodies and encode answers. The event loop has priority over them."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

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
    """`function(*arguments)` on one of the threads.

    If the caller is cancelled, a function that has not begun never does. One that has begun runs to its end, and its
    thread stays taken until then; see `when_unused`.
    """
    work = _Work(function, arguments)
    task = asyncio.create_task(to_thread.run_sync(work.run, limiter=THREADS))
    try:
        result: ResultT = await asyncio.shield(task)
    except asyncio.CancelledError:
        if not work.has_begun:
            task.cancel()
        elif caller := asyncio.current_task():
            _abandoned[caller] = task
            task.add_done_callback(_retrieve)
        raise
    return result


def when_unused(call: Callable[[], object]) -> None:
    """Call `call` once no thread works for the current task: at once, or when the work that it abandoned has ended."""
    caller = asyncio.current_task()
    work = None if caller is None else _abandoned.get(caller)
    if work is None or work.done():
        call()
    else:
        work.add_done_callback(lambda _: call())


async def off_loop(numbers: int, function: Callable[..., ResultT], *arguments: Any) -> ResultT:
    """`function(*arguments)`, on a thread if it handles more than FEW_NUMBERS `numbers`."""
    if numbers <= FEW_NUMBERS:
        return function(*arguments)
    return await on_thread(function, *arguments)


class _Work:
    """A call on a thread of lower priority."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function = function
        self._arguments = arguments
        self.has_begun = False

    def run(self) -> Any:
        self.has_begun = True
        if not getattr(_local, "is_lowered", False):  # a thread serves one request after the other
            lower(_NICE)
            _local.is_lowered = True
        return self._function(*self._arguments)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Read the error of a task that is not awaited. Otherwise asyncio would log it."""
    if not task.cancelled():
        task.exception()


_local = threading.local()
_abandoned: WeakKeyDictionary[asyncio.Task[Any], asyncio.Task[Any]] = WeakKeyDictionary()
