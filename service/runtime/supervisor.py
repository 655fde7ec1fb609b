"""The supervisor: it starts the replicas, restarts one that dies, forwards signals, and stops all together.

It has one thread and does not use CUDA, so that it can fork at any time. All its work is short: it never waits for a
replica.
"""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from . import channel
from .board import Board
from .collector import Collector
from .device_process import DeviceProcess
from .line_buffer import LINES
from .pulse import Pulse
from .reception import Reception
from .replica import Replica, Run

# Seconds between the checks for replicas that are stuck.
CHECK_SECONDS = 1.0
# Seconds beyond the shutdown's own limit after which a replica that has not ended is killed.
EXTRA_SECONDS = 5.0


class Rules(NamedTuple):
    """The settings of the supervisor. Times are in seconds."""

    connections: int
    drain_seconds: float
    shutdown_seconds: float
    stall_seconds: float
    hang_seconds: float


class Supervisor:
    """Keeps one process for each row of `board`, which calls `run`, until a signal stops it.

    Args:
        listeners: sockets that listen.
        board: the board of the replicas; its size is their number.
        run: what a replica does.
        rules: the settings.
        refusal: the bytes of the answer to a connection beyond the limit.
        log: called with an event and its fields.
        ready: called once all replicas have been ready.
        device: the process that computes on a GPU for all replicas, if there is one.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        board: Board,
        run: Run,
        rules: Rules,
        refusal: bytes,
        log: Callable[..., object],
        ready: Callable[[], object] = lambda: None,
        device: DeviceProcess | None = None,
    ) -> None:
        self._board = board
        self._run = run
        self._rules = rules
        self._log = log
        self._device = device
        self._ready: Callable[[], object] | None = ready
        self._selector = selectors.DefaultSelector()
        self._pulses = [Pulse() for _ in range(board.replicas)]
        self._replicas = [Replica(number, board) for number in range(board.replicas)]
        self._reception = Reception(
            listeners, self._replicas, board, rules.connections, refusal, self._selector, self._after
        )
        self._collector = Collector(self._replicas, board, self._tell, self._after, self._others)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = itertools.count()
        self._wake, self._waker = socket.socketpair()
        self._status: int | None = None
        self.reason = ""
        """Why the service could not start; empty otherwise."""

    def run(self) -> int:
        """Supervise until all replicas have ended. Returns the exit status: 0 after a stop, 1 or 2 after a failure."""
        for end in (self._wake, self._waker):
            end.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._selector.register(self._wake, selectors.EVENT_READ, self._signalled)
        if self._device is not None:
            self._start_device(self._device)
        for replica in self._replicas:
            self._start(replica)
        self._after(CHECK_SECONDS, self._check)
        while self._status is None or any(replica.pid for replica in self._replicas):
            timeout = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, events in self._selector.select(timeout):
                # An earlier event may have closed this one's socket.
                if self._selector.get_map().get(key.fd) is key:
                    key.data(events)
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()
        if self._device is not None:
            self._device.end()
        return self._status

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._sequence), call))

    # -- replicas -----------------------------------------------------------------------------------------------

    def _start(self, replica: Replica) -> None:
        if self._status is not None:
            return
        others = [other.channel for other in self._replicas if other.channel is not None]
        try:
            stream = replica.start(self._run, self._close_copies, others).messages.socket
        except OSError as error:
            self._restart(replica, "replica cannot be started", error=str(error))
            return
        self._selector.register(stream, selectors.EVENT_READ, lambda events: self._read(replica))

    def _close_copies(self, *, keep_device: bool = False) -> None:
        self._selector.close()
        self._wake.close()
        self._waker.close()
        self._reception.close_copies()
        if self._device is not None and not keep_device:
            self._device.close()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self._device is not None and self._device.pid == pid:
                self._device_ended(self._device, os.waitstatus_to_exitcode(status))
            for replica in self._replicas:
                if replica.pid == pid:
                    self._ended(replica, os.waitstatus_to_exitcode(status))

    def _ended(self, replica: Replica, status: int) -> None:
        self._read(replica)
        if replica.channel is not None:
            self._selector.unregister(replica.channel.messages.socket)
        self._restart(replica, "replica died", pid=replica.pid, status=status, served_seconds=replica.served_seconds)

    def _restart(self, replica: Replica, event: str, **fields: object) -> None:
        """Forget the process of a replica, and start another one after a pause, if the service does not stop."""
        pause = replica.ended()
        self._collector.ended(replica)
        self._reception.update()
        if self._status is not None:
            return
        self._log(event, **fields, restart_seconds=pause)
        if replica.backoff.is_hopeless and not self._board.live():
            self._log("replicas keep dying at the start; the service ends", attempts=replica.backoff.failed_starts)
            self._end(1)
            return
        self._collector.restarts.add()
        self._after(pause, lambda: self._start(replica))

    def _check(self) -> None:
        """End replicas that are stuck, also at their start, so that they are started again."""
        for replica in self._replicas:
            if not replica.pid or replica.is_ending:
                continue
            number = replica.number
            silent = self._board.silent_seconds(number)
            if self._board.is_stuck(number) or silent > self._rules.stall_seconds:
                self._log("replica is stuck", pid=replica.pid, silent_seconds=silent)
                self._stop_one(replica)
            elif self._board.is_live(number) and silent > CHECK_SECONDS:
                still = self._pulses[number].look(replica.pid, self._board.last_beat(number), time.monotonic())
                if still > self._rules.hang_seconds:
                    # It reads no orders any more.
                    self._log("replica hangs and is killed", pid=replica.pid, still_seconds=still)
                    replica.is_ending = True
                    replica.kill()
        if self._device is not None and self._device.hangs(self._rules.stall_seconds, self._rules.hang_seconds):
            self._log("the process of the GPU is stuck and is killed", pid=self._device.pid)
            self._device.kill()
        self._reception.update()
        if self._ready is not None and self._board.are_ready():
            self._ready()
            self._ready = None
        LINES.flush()  # those that their reader did not take
        self._after(CHECK_SECONDS, self._check)

    # -- the process of the GPU ---------------------------------------------------------------------------------

    def _others(self) -> list[int]:
        return [self._device.pid] if self._device is not None and self._device.pid else []

    def _start_device(self, device: DeviceProcess) -> None:
        if self._status is not None:
            return

        def close() -> None:
            self._close_copies(keep_device=True)
            for replica in self._replicas:
                if replica.channel is not None:
                    replica.channel.close()

        try:
            device.start(close)
        except OSError as error:
            self._restart_device(device, "the process of the GPU cannot be started", error=str(error))

    def _device_ended(self, device: DeviceProcess, status: int) -> None:
        state, pid = device.state, device.pid
        if state.is_unneeded:
            device.pid = 0
        elif state.reason:
            self._refused(state.reason)
            device.pid = 0  # the replicas have yet to read the reason
        else:
            self._restart_device(device, "the process of the GPU died", pid=pid, status=status)

    def _restart_device(self, device: DeviceProcess, event: str, **fields: object) -> None:
        """Start another process after a pause, if the service does not stop."""
        pause = device.ended()
        if self._status is not None:
            device.give_up()
            return
        self._log(event, **fields, restart_seconds=pause)
        if device.is_hopeless and not device.state.is_found:
            self._log("the process of the GPU keeps dying at the start; the service ends")
            self._end(1)
            return
        self._collector.restarts.add()
        self._after(pause, lambda: self._start_device(device))

    # -- stop ---------------------------------------------------------------------------------------------------

    def _signalled(self, events: int) -> None:
        for number in self._wake.recv(4096):
            if number == signal.SIGCHLD:
                self._reap()
            else:
                self._stop(number)

    def _stop(self, number: int) -> None:
        """Drain, or stop at once after a second signal or Ctrl-C; a further signal interrupts running requests."""
        if self._status is not None:
            for replica in self._replicas:
                self._tell(replica, channel.FORCE)
        elif self._board.draining or number == signal.SIGINT:
            self._end(0)
        else:
            self._log("draining", seconds=self._rules.drain_seconds)
            self._after(self._rules.drain_seconds, lambda: self._end(0))
        self._board.drain()

    def _end(self, status: int) -> None:
        """Let all replicas finish what they hold, and end with `status`."""
        if self._status is None:
            self._status = status
            self._reception.close()
            if self._device is not None:
                self._device.give_up()
            for replica in self._replicas:
                self._stop_one(replica)

    def _stop_one(self, replica: Replica) -> None:
        if replica.pid and not replica.is_ending:
            replica.is_ending = True
            self._tell(replica, channel.STOP)
            pid, seconds = replica.pid, self._rules.shutdown_seconds + EXTRA_SECONDS
            self._after(seconds, lambda: replica.kill() if replica.pid == pid else None)

    # -- messages -----------------------------------------------------------------------------------------------

    def _tell(self, replica: Replica, kind: bytes, content: bytes = b"") -> None:
        if replica.channel is not None:
            replica.channel.messages.send(kind, content)
            self._flush(replica)

    def _flush(self, replica: Replica) -> None:
        """Send what waits, and watch for the moment when the rest can be sent."""
        if replica.channel is not None:
            messages = replica.channel.messages
            events = selectors.EVENT_READ | (0 if messages.flush() else selectors.EVENT_WRITE)
            key = self._selector.get_key(messages.socket)
            if key.events != events:
                self._selector.modify(messages.socket, events, key.data)

    def _read(self, replica: Replica) -> None:
        if replica.channel is None:
            return
        try:
            received = replica.channel.messages.receive()
        except EOFError:  # the process ends, and its SIGCHLD follows
            return
        for kind, content in received:
            if kind == channel.SERVING:
                replica.serves()
                self._reception.update()
            elif kind == channel.REFUSED:
                self._refused(content.decode())
            elif kind == channel.WANTED:
                self._collector.ask(replica, content)
            elif kind == channel.SNAPSHOT:
                self._collector.answered(replica, content)
        self._flush(replica)

    def _refused(self, reason: str) -> None:
        """A replica cannot start, for a reason that a restart does not change. At the first start, the service ends."""
        if self._status is None and not self._board.live():
            self.reason = reason
            self._end(2)
