"""Ends a process without a supervisor if its event loop stands still."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from .board import Board
from .pulse import Pulse

LOOK_SECONDS = 1.0


class Watchdog:
    """Watches the event loop of the only replica of `board`, from a thread of its own.

    It cannot see a call that holds the interpreter's lock, because its own thread then stands still as well.

    Args:
        board: has the reports of the event loop.
        hang_seconds: how long the event loop may stand still.
        end: called with the seconds that it has stood still, once these are more.
    """

    def __init__(self, board: Board, hang_seconds: float, end: Callable[[float], object]) -> None:
        self._board = board
        self._hang_seconds = hang_seconds
        self._end = end
        self._pulse = Pulse()
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to watch."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stopped.set()

    def look(self) -> bool:
        """Look once. Returns whether the event loop has stood still for too long; then `end` has been called."""
        if not self._board.is_live(0) or self._board.draining:
            return False
        still = self._pulse.look(os.getpid(), self._board.last_beat(0), time.monotonic())
        if still > self._hang_seconds:
            self._end(still)
            return True
        return False

    def _run(self) -> None:
        while not self._stopped.wait(LOOK_SECONDS) and not self.look():
            pass
