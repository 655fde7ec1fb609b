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
from .pulse import MOST_SECONDS, Pulse

# Seconds after which a start hangs. It loads CUDA and captures the graphs, which takes about ten.
START_SECONDS = 120.0
# Seconds to wait for the end of the process that was killed. A fault of the device or its driver may prevent it.
END_SECONDS = 5.0
_POLL_SECONDS = 0.01

Compute = Callable[[socket.socket, DeviceState], int]
"""What the process does: it answers calls that arrive at a socket, and reports its state. It returns an exit status."""


class DeviceProcess:
    """A place for the process. It may die and be replaced; its address and its state remain."""

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._listener = device_link.listen()
        self._began = 0.0
        self._backoff = Backoff()
        # If this process is stopped, all callers wait. If the whole service is stopped, nobody looks.
        self._pulse = Pulse(counts_stops=True)
        self._looked = 0.0
        self._served_seconds: float | None = None
        self.address: bytes = self._listener.getsockname()
        self.state = DeviceState()
        self.pid = 0
        self.is_killed = False
        """Whether the process was killed. It may take seconds to end."""

    def start(self, close: Callable[[], None]) -> None:
        """Fork the process. In it, `close` drops what the supervisor uses. Raises OSError if it cannot be started."""

        def work() -> int:
            close()
            return self._compute(self._listener, self.state)

        self.state.starting()
        self._began, self._served_seconds = time.monotonic(), None
        self.pid, self.is_killed = fork(work), False

    def ended(self) -> float:
        """Note that the process has ended. Returns the seconds to wait before the next start."""
        self.pid = 0
        self._refuse_calls()
        return self._backoff.died(self._served_seconds)

    def hangs(self, stall_seconds: float, hang_seconds: float) -> bool:
        """Whether the process has not reported activity for longer than `hang_seconds`, or its start takes too long.

        That is longer than `stall_seconds`, or than 120. A computation takes milliseconds, and callers that wait for
        one must not count as stalled. As for an event loop, time without a processor does not count; see `Pulse`. Call
        this every second. A call that is late says no, because the whole service may have stood still.
        """
        beat, now = self.state.last_beat(), time.monotonic()
        is_late, self._looked = now - self._looked > MOST_SECONDS, now
        if not self.pid or self.is_killed or not beat:
            return False
        if not self.state.is_ready:
            return now - beat > min(stall_seconds, START_SECONDS) and not is_late
        return self._pulse.look(self.pid, beat, now) > hang_seconds or (now - beat > stall_seconds and not is_late)

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
        """Kill the process, if there is one. A fault of the driver may delay its end, so calls are refused at once."""
        if self.pid:
            self.is_killed = True
            os.kill(self.pid, signal.SIGKILL)
            self._refuse_calls()

    def end(self) -> None:
        """Kill the process, because all of its callers have ended, and wait some seconds for its end."""
        self.kill()
        until = time.monotonic() + END_SECONDS
        while self.pid and time.monotonic() < until:
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                self.pid = 0
            else:
                time.sleep(_POLL_SECONDS)

    def _refuse_calls(self) -> None:
        if self.state.is_ready:
            self._served_seconds = time.monotonic() - self._began
        self.state.ended()
        # They were made before the end was known. Without this, their callers would wait for the next process.
        device_link.refuse(self._listener)
