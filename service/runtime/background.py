"""Work in a process of its own, beside the service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from .forking import fork


def start(work: Callable[[], None], close: Callable[[], None]) -> int:
    """Fork a process that calls `work`. This process must have one thread.

    In the new process, `close` drops what this one uses. The result is a descriptor that becomes readable when the work
    has ended, well or badly.
    """
    ended, ends = os.pipe()

    def child() -> int:
        os.close(ended)
        close()
        work()
        return 0

    fork(child)
    os.close(ends)
    return ended


async def has_ended(descriptor: int) -> None:
    """Wait until the work of `start` has ended. Call this once in each process."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
