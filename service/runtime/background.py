"""Work in a process of its own, beside the service."""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import Callable
from typing import NamedTuple

from .forking import fork


class Background(NamedTuple):
    """Work that `start` has begun, as this process and its children see it."""

    descriptor: int
    """It becomes readable when the work has ended, well or badly."""
    succeeded: mmap.mmap
    """One byte: 1 if it has ended well."""

    async def ended(self) -> bool:
        """Wait until the work has ended. Returns whether it ended well. Call this once in each process."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self.descriptor)
            os.close(self.descriptor)
        return self.succeeded[0] == 1


def start(work: Callable[[], None], close: Callable[[], None]) -> Background:
    """Fork a process that calls `work`. This process must have one thread.

    In the new process, `close` drops what this one uses.
    """
    ended, ends = os.pipe()
    succeeded = mmap.mmap(-1, 1)

    def child() -> int:
        os.close(ended)
        close()
        work()
        succeeded[0] = 1
        return 0

    fork(child)
    os.close(ends)
    return Background(ended, succeeded)
