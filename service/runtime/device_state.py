"""The state of the process that computes on a GPU, in memory that it shares with the supervisor and the replicas."""

from __future__ import annotations

import mmap
import os
import time

# Threads of the process that compute.
THREADS = 2
_TEXT_BYTES = 1024
_KEY_BYTES = 16
_PHASE, _FOUND, _BEGAN = 0, 1, 2
_NUMBERS = _BEGAN + THREADS
_STARTING, _READY, _UNNEEDED, _REFUSED = 0.0, 1.0, 2.0, 3.0


class DeviceState:
    """Whether the process is ready, what it says of the device, and how long its threads have computed.

    The process writes, and the supervisor resets it when the process has ended.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 * _NUMBERS + _TEXT_BYTES)
        self._numbers: memoryview[float] = memoryview(self._memory)[: 8 * _NUMBERS].cast("d")
        self.key = os.urandom(_KEY_BYTES)
        """What callers of the process show, which have it from the supervisor."""

    # -- for the process ----------------------------------------------------------------------------------------

    def ready(self, device: str) -> None:
        """Note that calls are answered, and the kind of the device."""
        self._numbers[_FOUND] = 1.0
        self._become(_READY, device)

    def unneeded(self) -> None:
        """Note that there is no device, and that the replicas are to compute by themselves.

        If there has been one, it is lost, and this does nothing: the results of a processor would differ from its own.
        """
        if not self._numbers[_FOUND]:
            self._become(_UNNEEDED, "")

    def refused(self, reason: str) -> None:
        """Note why the service cannot start."""
        self._become(_REFUSED, reason)

    def begin(self, thread: int) -> None:
        """Note that thread number `thread` begins to compute."""
        self._numbers[_BEGAN + thread] = time.monotonic()

    def end(self, thread: int) -> None:
        """Note that thread number `thread` has computed."""
        self._numbers[_BEGAN + thread] = 0.0

    # -- for the supervisor -------------------------------------------------------------------------------------

    def starting(self) -> None:
        """Note that a process starts."""
        self.ended()
        self.begin(0)

    def ended(self) -> None:
        """Note that there is no process."""
        for place in (_PHASE, *range(_BEGAN, _NUMBERS)):
            self._numbers[place] = 0.0

    def oldest(self) -> float:
        """The start of the oldest running computation, or of a process that is not ready; 0 if there is none."""
        return min(filter(None, self._numbers[_BEGAN:]), default=0.0)

    # -- for the replicas ---------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether calls are answered."""
        return self._numbers[_PHASE] == _READY

    @property
    def is_unneeded(self) -> bool:
        """Whether the replicas are to compute by themselves."""
        return self._numbers[_PHASE] == _UNNEEDED

    @property
    def reason(self) -> str:
        """Why the service cannot start; empty otherwise."""
        return self.text if self._numbers[_PHASE] == _REFUSED else ""

    @property
    def text(self) -> str:
        """The kind of the device, or why the service cannot start."""
        return self._memory[8 * _NUMBERS :].rstrip(b"\0").decode(errors="replace")

    def _become(self, phase: float, text: str) -> None:
        # A phase is valid once its text is.
        self._memory[8 * _NUMBERS :] = text.encode()[:_TEXT_BYTES].ljust(_TEXT_BYTES, b"\0")
        self._numbers[_PHASE] = phase
        self.end(0)
