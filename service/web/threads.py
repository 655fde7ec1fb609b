"""The threads that decode bodies and encode answers. The event loop has priority over them."""

from __future__ import annotations

import asyncio
import contextvars
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from ..runtime.priority import lower
from ..runtime.thread_name import show_name

CORES = os.cpu_count() or 1

ResultT = TypeVar("ResultT")
# How much the threads lower their priority. Beside two clients of large bodies, the 99th percentile of small requests
# falls to half. With 10, as lanes with long jobs have, large bodies come to a third less where small ones are many.
_NICE = 5
_NAME = "bodies"
# Array operations on more numbers take milliseconds.
FEW_NUMBERS = 1 << 16


def _pool(threads: int) -> ThreadPoolExecutor:
    # Threads begin with the first calls, so that a process may still fork.
    return ThreadPoolExecutor(threads, _NAME, _begin)


def _begin() -> None:
    show_name(_NAME)
    lower(_NICE)


# One thread for each core: more threads would only hold more clouds and pictures in memory.
_threads = _pool(CORES)


def share(processes: int) -> None:
    """Leave this process its share of the threads, where several processes serve. At least two remain."""
    global _threads
    _threads = _pool(max(2, math.ceil(CORES / processes)))


async def on_thread(function: Callable[..., ResultT], *arguments: Any) -> ResultT:
    """`function(*arguments)` on one of the threads.

    If the caller is cancelled, a function that has not begun never does. One that has begun runs to its end, and its
    thread stays taken until then; see `when_unused`.
    """
    call = _threads.submit(contextvars.copy_context().run, function, *arguments)
    result = asyncio.wrap_future(call)
    try:
        return await asyncio.shield(result)
    except asyncio.CancelledError:
        if not call.cancel() and (caller := asyncio.current_task()):
            _abandoned[caller] = result
            result.add_done_callback(_retrieve)
        raise


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


def _retrieve(result: asyncio.Future[Any]) -> None:
    """Read the error of a call that is not awaited. Otherwise asyncio would log it."""
    if not result.cancelled():
        result.exception()


_abandoned: WeakKeyDictionary[asyncio.Task[Any], asyncio.Future[Any]] = WeakKeyDictionary()
