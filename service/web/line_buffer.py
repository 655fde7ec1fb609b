"""The lines of the log on their way to stderr."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

# Seconds that a line may wait, and the number of lines that wait at most.
FLUSH_SECONDS = 0.25
MOST_LINES = 512
# Bytes that a pipe takes in one piece (PIPE_BUF). Several processes may write to it, and each line must stay whole.
ATOMIC_BYTES = 4096


class LineBuffer:
    """Writes lines in groups, because a call of the system for each line takes longer than the line.

    A line waits only on a thread with a running event loop, which writes it later. Elsewhere it is written at once.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def write(self, line: str, *, urgent: bool = True) -> None:
        """Write `line`: at once, after the lines that wait, if it is `urgent`; else within `FLUSH_SECONDS`."""
        self._lines.append(line)
        if urgent or len(self._lines) >= MOST_LINES:
            self.flush()
        elif self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
            except RuntimeError:  # no event loop runs on this thread
                self.flush()

    def flush(self) -> None:
        """Write all lines that wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # One assignment, because another thread may write at the same time.
        lines, self._lines = self._lines, []
        group: list[str] = []
        size = 0
        for line in lines:
            length = len(line.encode()) + 1
            if size + length > ATOMIC_BYTES:
                _write(group)
                group, size = [], 0
            group.append(line + "\n")
            size += length
        _write(group)


def _write(lines: list[str]) -> None:
    if lines:
        # If the disk is full or the pipe is closed, these lines are lost. The requests go on.
        with suppress(OSError):
            sys.stderr.write("".join(lines))
            sys.stderr.flush()


LINES = LineBuffer()
