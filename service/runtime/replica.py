"""One replica as its supervisor sees it, and how it is forked."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from .backoff import Backoff
from .board import Board, Seat
from .channel import Pair, open_channel

# Of <linux/prctl.h>: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG = 1
# The supervisor's signals, which a replica ignores. A terminal sends SIGINT to all processes, and an orchestrator may
# do so with SIGTERM. The supervisor then tells each replica what to do.
SIGNALS = (signal.SIGINT, signal.SIGTERM)
Run = Callable[[Seat, Pair], int]
"""What a replica does: it returns the exit status."""


class Replica:
    """One place for a process that serves. The process may die and be replaced."""

    def __init__(self, number: int, board: Board) -> None:
        self.number = number
        self._board = board
        self._handed = 0
        self._serving_since = 0.0
        self.pid = 0
        self.channel: Pair | None = None
        self.backoff = Backoff()
        self.snapshot = b"[]"
        self.is_ending = False

    @property
    def open_connections(self) -> int:
        """Connections that were handed over and are not closed."""
        return self._handed - self._board.closed(self.number)

    @property
    def served_seconds(self) -> float | None:
        """Seconds since the replica began to take connections; None if it has not."""
        return time.monotonic() - self._serving_since if self._serving_since else None

    def start(self, run: Run, close: Callable[[], None], others: Sequence[Pair]) -> Pair:
        """Fork a process that calls `run`, and return this end of its channel.

        In the new process, `close` and the closing of `others` drop what the supervisor uses.

        Raises:
            OSError: the system has no descriptors, process ids or memory for it at present.
        """
        ours, theirs = open_channel()
        parent = os.getpid()
        # A process that hangs before its first report counts as silent from now on.
        self._board.seat(self.number).beat(stuck=False)
        # A signal between the fork and the change of its handlers would reach the supervisor's handler twice.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            ours.close()
            theirs.close()
            raise
        if pid == 0:
            status = 1
            try:
                signal.set_wakeup_fd(-1)
                for number in SIGNALS:
                    signal.signal(number, signal.SIG_IGN)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
                end_with(parent)
                close()
                for pair in (ours, *others):
                    pair.close()
                status = run(self._board.seat(self.number), theirs)
            except BaseException:
                traceback.print_exc()
            finally:
                # Without the clean-up of the interpreter, which belongs to the supervisor.
                end_now(status)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        theirs.close()
        self.pid, self.channel = pid, ours
        self._handed, self._serving_since, self.is_ending, self.snapshot = 0, 0.0, False, b"[]"
        return ours

    def hand_over(self) -> None:
        """Count a connection that was handed over."""
        self._handed += 1

    def serves(self) -> None:
        """Note that the replica takes connections."""
        self._serving_since = time.monotonic()
        self.backoff.failed_starts = 0

    def ended(self) -> float:
        """Note that the process has ended. Returns the seconds to wait before the next start."""
        if self.channel is not None:
            self.channel.close()
        self._board.reset(self.number)
        pause = self.backoff.died(self.served_seconds)
        self.pid, self.channel, self._handed, self._serving_since = 0, None, 0, 0.0
        return pause

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process, if there is one."""
        if self.pid:
            os.kill(self.pid, number)


def end_now(status: int) -> None:
    """End this process without the interpreter's clean-up, even if its log cannot be written."""
    try:
        sys.stderr.flush()
    finally:
        os._exit(status)


def end_with(parent: int) -> None:
    """Let this process be killed when `parent` ends, also if that is killed itself. On Linux; elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)
