"""Limits of a caller's requests over all processes of the service: their rate, and how many run at once."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import sys
import tempfile
import time
from typing import NamedTuple

from .board import Seat

if sys.platform != "win32":  # where there is one process
    import fcntl

# Callers that can have limits, in the life of one service.
MOST_CALLERS = 4096
# Attempts to take the lock of a caller, and seconds between them. Another process holds it for microseconds, unless it
# was stopped meanwhile; the request then goes on without the lock.
_ATTEMPTS = 100
_PAUSE_SECONDS = 50e-6
# Of a rate: rounding must not refuse the last request of a burst.
_TOLERANCE_SECONDS = 1e-9


class Allowance(NamedTuple):
    """What one caller may do. Infinite numbers are no limits."""

    rate: float = math.inf
    """Requests per second, over a long time."""
    burst: int = 1
    """Requests that may come at once after a pause."""
    concurrency: float = math.inf
    """Requests that run at one time."""


class Refusal(NamedTuple):
    """Why a request must wait."""

    limit: str
    """`rate` or `concurrency`."""
    retry_after: float
    """Seconds."""


class Quotas:
    """The memory that `replicas` processes share, made before they are forked.

    Each caller has a slot. It has the time at which its burst is whole again (the generic cell rate algorithm), and a
    number of running requests for each process. Only that process writes its number. A lock of the system guards each
    slot, because a process that dies loses its locks.
    """

    def __init__(self, replicas: int) -> None:
        self.replicas = replicas
        memory = memoryview(mmap.mmap(-1, 8 * MOST_CALLERS * (2 + replicas)))
        self._names: memoryview[int] = memory[: 8 * MOST_CALLERS].cast("Q")
        self._whole_at: memoryview[float] = memory[8 * MOST_CALLERS : 16 * MOST_CALLERS].cast("d")
        self._running: memoryview[int] = memory[16 * MOST_CALLERS :].cast("q")
        # Locks of a file belong to a process, so one process needs none.
        self._file = _unnamed_file() if replicas > 1 else None

    def slot(self, name: str) -> int:
        """The slot of the caller `name`, the same in all processes.

        Raises:
            OverflowError: more than `MOST_CALLERS` names have been used.
        """
        mark = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") or 1
        self._lock(MOST_CALLERS)
        try:
            for step in range(MOST_CALLERS):
                slot = (mark + step) % MOST_CALLERS
                if self._names[slot] in {0, mark}:
                    self._names[slot] = mark
                    return slot
        finally:
            self._unlock(MOST_CALLERS)
        raise OverflowError(f"more than {MOST_CALLERS} callers with limits since the start of the service")

    def _lock(self, slot: int) -> None:
        if sys.platform == "win32" or self._file is None:
            return
        for _ in range(_ATTEMPTS):
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
            except (BlockingIOError, PermissionError):
                time.sleep(_PAUSE_SECONDS)
            else:
                return

    def _unlock(self, slot: int) -> None:
        if sys.platform != "win32" and self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, slot)


class Ledger:
    """The quotas as one process sees them, that of `seat`."""

    def __init__(self, quotas: Quotas, seat: Seat) -> None:
        self._quotas = quotas
        self._seat = seat
        # What a process in this place left behind when it died.
        for slot in range(MOST_CALLERS):
            quotas._running[self._own(slot)] = 0

    def _own(self, slot: int) -> int:
        return slot * self._quotas.replicas + self._seat.replica

    def enter(self, slot: int, allowance: Allowance, now: float) -> Refusal | None:
        """Begin a request at the monotonic time `now`, unless the caller must wait. `leave` ends it."""
        quotas = self._quotas
        quotas._lock(slot)
        try:
            if self._running(slot) >= allowance.concurrency:
                return Refusal("concurrency", 1.0)
            if allowance.rate < math.inf:
                period = 1.0 / allowance.rate
                whole_at = max(quotas._whole_at[slot], now) + period
                wait = whole_at - now - allowance.burst * period
                if wait > _TOLERANCE_SECONDS:
                    return Refusal("rate", wait)
                quotas._whole_at[slot] = whole_at
            quotas._running[self._own(slot)] += 1
            return None
        finally:
            quotas._unlock(slot)

    def leave(self, slot: int) -> None:
        """End a request that `enter` began."""
        self._quotas._running[self._own(slot)] -= 1

    def _running(self, slot: int) -> int:
        """Requests of the caller that run now. Those of a process that died do not count."""
        quotas, own = self._quotas, self._seat.replica
        first = slot * quotas.replicas
        others = (replica for replica in self._seat.board.live() if replica != own)
        return quotas._running[first + own] + sum(quotas._running[first + replica] for replica in others)


def _unnamed_file() -> int:
    """The descriptor of a file without a name, which lasts as long as the processes that have it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("latentserve-quotas")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
