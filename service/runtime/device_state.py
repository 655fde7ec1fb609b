"""The state of the process that computes on a GPU, in memory that it shares with the supervisor and the replicas."""

from __future__ import annotations

import mmap
import os
import time

# Threads of the process that compute.
THREADS = 2
_TEXT_BYTES = 1024
_KEY_BYTES = 16
_PHASE, _FOUND, _STARTS, _BEAT = 0, 1, 2, 3
_NUMBERS = _BEAT + THREADS
_STARTING, _READY, _UNNEEDED, _REFUSED = 0.0, 1.0, 2.0, 3.0


class DeviceState:
    """Whether the process is ready, what it reports about the device, and when its threads were last active.

    The process writes, and the supervisor resets it when the process has ended.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 * _NUMBERS + 2 * _TEXT_BYTES)
        self._numbers: memoryview[float] = memoryview(self._memory)[: 8 * _NUMBERS].cast("d")
        self.key = os.urandom(_KEY_BYTES)
        """What callers of the process show, which have it from the supervisor."""

    # -- for the process ----------------------------------------------------------------------------------------

    def ready(self, kind: str) -> None:
        """Note that calls are answered, and the kind of the device.

        Raises:
            RuntimeError: the device was of another kind before, so that its results would differ.
        """
        if self.is_found and kind != self.kind:
            raise RuntimeError(f"the GPU is a {kind}, but it was a {self.kind}; restart the service to use it")
        self._write(0, kind)
        self._numbers[_FOUND] = 1.0
        self._become(_READY)

    def unneeded(self) -> None:
        """Note that there is no device, and that the replicas are to compute by themselves.

        If there has been one, it is lost, and this does nothing. The results of a processor would differ.
        """
        if not self.is_found:
            self._become(_UNNEEDED)

    def refused(self, reason: str) -> None:
        """Note why the service cannot start. If the device has been found, it is lost, and this does nothing."""
        if not self.is_found:
            self._write(1, reason)
            self._become(_REFUSED)

    def beat(self, thread: int) -> None:
        """Note that thread number `thread` is active: it begins to compute, or looks for calls."""
        self._numbers[_BEAT + thread] = time.monotonic()

    def rest(self, thread: int) -> None:
        """Note that thread number `thread` waits for another one, and is not active meanwhile."""
        self._numbers[_BEAT + thread] = -time.monotonic()

    # -- for the supervisor -------------------------------------------------------------------------------------

    def starting(self) -> None:
        """Note that a process starts."""
        self.ended()
        self._numbers[_STARTS] += 1
        self.beat(0)

    def ended(self) -> None:
        """Note that there is no process."""
        for place in (_PHASE, *range(_BEAT, _NUMBERS)):
            self._numbers[place] = 0.0

    def last_beat(self) -> float:
        """The last activity of the thread that has been idle for longest, by `time.monotonic`; 0 without a process.

        A thread that waits for another one does not count, unless all do: then none has begun since the last one ended.
        """
        beats = list(self._numbers[_BEAT:])
        return min((beat for beat in beats if beat > 0), default=-min(beats))

    # -- for the replicas ---------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether calls are answered."""
        return self._numbers[_PHASE] == _READY

    @property
    def is_found(self) -> bool:
        """Whether calls have ever been answered."""
        return self._numbers[_FOUND] > 0

    @property
    def is_unneeded(self) -> bool:
        """Whether the replicas are to compute by themselves."""
        return self._numbers[_PHASE] == _UNNEEDED

    @property
    def starts(self) -> int:
        """Processes that have been started."""
        return int(self._numbers[_STARTS])

    @property
    def reason(self) -> str:
        """Why the service cannot start; empty otherwise."""
        return self._text(1) if self._numbers[_PHASE] == _REFUSED else ""

    @property
    def kind(self) -> str:
        """The kind of the device; empty until it is found."""
        return self._text(0)

    def _become(self, phase: float) -> None:
        self._numbers[_PHASE] = phase
        self.rest(0)

    def _text(self, place: int) -> str:
        return self._memory[self._places(place)].rstrip(b"\0").decode(errors="replace")

    def _write(self, place: int, text: str) -> None:
        self._memory[self._places(place)] = text.encode()[:_TEXT_BYTES].ljust(_TEXT_BYTES, b"\0")

    @staticmethod
    def _places(place: int) -> slice:
        start = 8 * _NUMBERS + place * _TEXT_BYTES
        return slice(start, start + _TEXT_BYTES)
