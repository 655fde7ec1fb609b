"""A gate that holds jobs back until their engine is ready."""

from __future__ import annotations

import asyncio
import time

from ..errors import Overloaded, ShuttingDown


class Gate:
    """Jobs wait here until `open` is called.

    Args:
        reason: what the jobs wait for, for errors.
        expected_seconds: how long that is expected to take from now.
        most: jobs that may wait.
    """

    def __init__(self, reason: str, expected_seconds: float, most: int) -> None:
        self._reason = reason
        self._expected = time.monotonic() + expected_seconds
        self._most = most
        self._waiting = 0
        self._is_open = False
        self._is_closing = False
        self._changed = asyncio.Event()

    def open(self) -> None:
        """Let all jobs pass from now on."""
        self._is_open = True
        self._changed.set()

    def close(self) -> None:
        """Fail the jobs that wait, because the service stops."""
        self._is_closing = True
        self._changed.set()

    async def passed(self, timeout: float | None) -> float | None:
        """Wait until the gate is open. Returns the seconds that remain of `timeout`; None for no deadline.

        Raises:
            Overloaded: `timeout` passed before, or too many jobs wait.
            ShuttingDown: the service stops.
        """
        if self._is_open:
            return timeout
        if self._waiting >= self._most:
            raise self._overloaded()
        began = time.monotonic()
        self._waiting += 1
        try:
            await asyncio.wait_for(self._changed.wait(), timeout)
        except TimeoutError:
            raise self._overloaded() from None
        finally:
            self._waiting -= 1
        if self._is_closing:
            raise ShuttingDown("the service is stopping", retry_after=1)
        return None if timeout is None else max(0.0, timeout - (time.monotonic() - began))

    def _overloaded(self) -> Overloaded:
        remaining = max(1.0, self._expected - time.monotonic())
        return Overloaded(f"{self._reason}; try again later, or allow more time", retry_after=remaining)
