"""The timeouts of clients: how long a connection waits for its client."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

# Bytes of a body that must arrive within its limit. A byte now and then would otherwise hold a connection without end.
LEAST_BODY_BYTES = 4096
# Bytes of chunks that may arrive without `LEAST_BODY_BYTES` of a body in them. One byte in each chunk takes 24 KiB, but
# the extensions of a chunk have any length. What arrives at once has up to 256 KiB.
MOST_FRAMING_BYTES = 512 * 1024


class Patience(NamedTuple):
    """Seconds that the service waits for a client."""

    head: float = 10.0
    """For the head of a request, from its first byte or from the start of the connection."""
    body: float = 30.0
    """For the next `LEAST_BODY_BYTES` of a body."""
    idle: float = 75.0
    """For the next request."""


class Phase(Enum):
    """What a connection waits for, unless it waits for the service."""

    HEAD = "the head of a request"
    BODY = "the body of a request"
    IDLE = "the next request"


class Watch:
    """The timer of a connection. It has one, because one for each request would take as long as reading the request.

    Args:
        patience: the limits.
        loop: the event loop.
        expired: called when the client has exceeded the limit of a phase.
        is_ours: whether the client waits for the service. That time is not the client's.
    """

    def __init__(
        self,
        patience: Patience,
        loop: asyncio.AbstractEventLoop,
        expired: Callable[[Phase], None],
        is_ours: Callable[[], bool],
    ) -> None:
        self._limits = {Phase.HEAD: patience.head, Phase.BODY: patience.body, Phase.IDLE: patience.idle}
        self._loop = loop
        self._expired = expired
        self._is_ours = is_ours
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf
        self._progress = self._arrived = 0
        self.phase = Phase.HEAD
        self.since = loop.time()
        """When the phase began, or when the client last made progress in it, by the time of the loop."""
        self.check()

    def enter(self, phase: Phase) -> None:
        """Note that a phase begins. Call `check` if it may have a shorter limit than the one before."""
        self.phase = phase
        self._progress = self._arrived = 0
        self.since = self._loop.time()

    def received(self, size: int) -> None:
        """Note that bytes of a body have arrived."""
        self._progress += size
        if self._progress >= LEAST_BODY_BYTES:
            self._progress = self._arrived = 0
            self.since = self._loop.time()

    def framing(self, size: int) -> int:
        """Count bytes that have arrived for a body. Returns those since the last `LEAST_BODY_BYTES` of the body."""
        self._arrived += size
        return self._arrived

    def check(self) -> None:
        """Ensure that the timer fires when the limit of this phase ends, or earlier."""
        due = self.since + self._limits[self.phase]
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = self._loop.call_later(due - self._loop.time(), self._fire)

    def stop(self) -> None:
        """End the watch."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._is_ours():
            self.since = now
        if now - self.since < self._limits[self.phase]:
            self.check()
        else:
            self._expired(self.phase)
