"""One replica as its supervisor sees it, and how it is forked."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence

from .backoff import Backoff
from .board import Board, Seat
from .channel import Pair, open_channel
from .forking import fork

Run = Callable[[Seat, Pair], int]
"""What a replica does: it returns the exit status."""


class Replica:
    """One place for a process that serves. The process may die and be replaced."""

    def __init__(self, number: int, board: Board) -> None:
        self.number = number
        self._board = board
        self.handed = 0
        """Connections that were handed over to this process."""
        self._serving_since = 0.0
        self.pid = 0
        self.channel: Pair | None = None
        self.backoff = Backoff()
        self.snapshot = b"[]"
        self.is_ending = False

    @property
    def open_connections(self) -> int:
        """Connections that were handed over and are not closed."""
        return self.handed - self._board.closed(self.number)

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
        # A process that hangs before its first report counts as silent from now on.
        self._board.seat(self.number).beat(stuck=False)

        def work() -> int:
            close()
            for pair in (ours, *others):
                pair.close()
            return run(self._board.seat(self.number), theirs)

        try:
            pid = fork(work)
        except OSError:
            ours.close()
            theirs.close()
            raise
        theirs.close()
        self.pid, self.channel = pid, ours
        self.handed, self._serving_since, self.is_ending, self.snapshot = 0, 0.0, False, b"[]"
        return ours

    def hand_over(self) -> None:
        """Count a connection that was handed over."""
        self.handed += 1

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
        self.pid, self.channel, self.handed, self._serving_since = 0, None, 0, 0.0
        return pause

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process, if there is one."""
        if self.pid:
            os.kill(self.pid, number)
