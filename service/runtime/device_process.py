"""The process that computes on a GPU, as its supervisor sees it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable

from . import device_link
from .backoff import Backoff
from .device_state import DeviceState
from .forking import fork

Compute = Callable[[socket.socket, DeviceState], int]
"""What the process does: it answers calls that arrive at a socket, and reports its state. It returns an exit status."""


class DeviceProcess:
    """A place for the process. It may die and be replaced; its address and its state remain."""

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._listener = device_link.listen()
        self._began = 0.0
        self._backoff = Backoff()
        self.address: bytes = self._listener.getsockname()
        self.state = DeviceState()
        self.pid = 0

    def start(self, close: Callable[[], None]) -> None:
        """Fork the process. In it, `close` drops what the supervisor uses. Raises OSError if it cannot be started."""

        def work() -> int:
            close()
            return self._compute(self._listener, self.state)

        self.state.starting()
        self._began = time.monotonic()
        self.pid = fork(work)

    def ended(self) -> float:
        """Note that the process has ended. Returns the seconds to wait before the next start."""
        self.pid = 0
        was_ready = self.state.is_ready
        self.state.ended()
        # They were made before the end was known. Without this, their callers would wait for the next process.
        device_link.refuse(self._listener)
        return self._backoff.died(time.monotonic() - self._began if was_ready else None)

    @property
    def busy_seconds(self) -> float:
        """Seconds since the oldest computation that has not ended began, or since the start; 0 if there is none."""
        return self.state.busy_seconds() if self.pid else 0.0

    @property
    def is_hopeless(self) -> bool:
        """Whether the maximum number of starts in a row has failed."""
        return self._backoff.is_hopeless

    def give_up(self) -> None:
        """Let replicas that wait for the start end, because the service ends."""
        if not (self.state.is_ready or self.state.reason):
            self.state.refused("the service ends")

    def close(self) -> None:
        """Close the copy of the socket in a process that only calls."""
        self._listener.close()

    def kill(self) -> None:
        """Kill the process, if there is one."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill the process, which holds nothing for anybody any more, and wait for its end."""
        if self.pid:
            self.kill()
            os.waitpid(self.pid, 0)
            self.pid = 0
