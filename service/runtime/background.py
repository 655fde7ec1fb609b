"""Work in a process of its own, beside the service."""

from __future__ import annotations

import asyncio
import os
import signal
import traceback
from collections.abc import Callable

from .replica import SIGNALS, end_now, end_with


def start(work: Callable[[], None], close: Callable[[], None]) -> int:
    """Fork a process that calls `work`. This process must have one thread.

    In the new process, `close` drops what this one uses. The result is a descriptor that becomes readable when the work
    has ended, well or badly.
    """
    parent = os.getpid()
    ended, ends = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if os.fork() == 0:
        try:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            end_with(parent)
            os.close(ended)
            close()
            work()
        except BaseException:
            traceback.print_exc()
        finally:
            end_now(0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
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
