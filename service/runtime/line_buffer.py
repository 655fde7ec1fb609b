"""The lines of the log on their way to stderr."""

from __future__ import annotations

import asyncio
import json
import os
import select
import threading
import time
from collections import deque

STDERR = 2
# Seconds that a line may wait, and the number of lines after which a group is written at once.
FLUSH_SECONDS = 0.25
MOST_LINES = 512
# Lines that wait while their reader is stalled, and their bytes. Further lines are lost.
MOST_WAITING = 8 * MOST_LINES
MOST_BYTES = 1 << 20
# Bytes that a pipe takes in one piece (PIPE_BUF). Several processes may write to it, and each line must stay whole.
ATOMIC_BYTES = 4096


class LineBuffer:
    """Writes lines in groups, because a call of the system for each line takes longer than the line.

    A line waits only on a thread with a running event loop, which writes it later. Elsewhere it is written at once.

    No call raises an error of the system, nor waits for the reader. Lines that cannot be written are lost and counted.
    The next line that can be written is followed by one with their number.
    """

    def __init__(self, descriptor: int = STDERR) -> None:
        self._descriptor = descriptor
        self._poll = select.poll() if hasattr(select, "poll") else None  # not on all systems
        if self._poll is not None:
            self._poll.register(descriptor, select.POLLOUT)
        self.forget()

    def forget(self) -> None:
        """Begin anew, after a fork: the lines that wait, and the counts, are those of the other process."""
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_thread = 0
        self._lock = threading.Lock()
        self._is_torn = False
        self._unreported = 0
        self.lost = 0
        """Lines that were lost so far."""

    def write(self, line: str, *, urgent: bool = True) -> None:
        """Write `line`: at once, after the lines that wait, if it is `urgent`; else within `FLUSH_SECONDS`."""
        self.write_bytes((line + "\n").encode("utf-8", "backslashreplace"), urgent=urgent)

    def write_bytes(self, text: bytes, *, urgent: bool) -> None:
        """As `write`, for a line with its end."""
        waiting = len(self._lines)
        # Without the lock, which would take as long as the rest: an append is whole, and the bytes may be inexact.
        if waiting < MOST_WAITING and self._bytes < MOST_BYTES:
            self._lines.append(text)
            self._bytes += len(text)
        else:
            self.lose()
        if urgent or waiting + 1 == MOST_LINES or (self._timer is None and not self._flush_later()):
            self.flush()

    def lose(self, lines: int = 1) -> None:
        """Count `lines` that are lost."""
        self.lost += lines
        self._unreported += lines

    def flush(self) -> None:
        """Write all lines that wait, as far as their reader takes them now."""
        with self._lock:
            # A timer may be cancelled on the thread of its loop alone. Elsewhere it is left, and finds no lines.
            if self._timer is not None and self._timer_thread == threading.get_ident():
                self._timer.cancel()
                self._timer = None
            lost: int | None = 1
            while self._lines and lost is not None:
                lost = self._send()
                self.lose(lost or 0)
            if lost == 0 and (reported := self._unreported):
                self._put(_report(reported))
                lost = self._send()
                self._unreported -= reported if lost != 1 else 0
            if lost is None:
                self._flush_later()

    def _flush_later(self) -> bool:
        """Flush after `FLUSH_SECONDS`. Returns False if no event loop runs on this thread."""
        try:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
            self._timer_thread = threading.get_ident()
        except RuntimeError:
            return False
        return True

    def _put(self, text: bytes) -> None:
        self._lines.append(text)
        self._bytes += len(text)

    def _send(self) -> int | None:
        """Write one group of lines. Returns how many of them are lost; None if the reader takes no more now."""
        lines = self._lines
        line = lines.popleft()
        group, size = [line], len(line)
        while lines and size + len(line := lines[0]) <= ATOMIC_BYTES:
            size += len(line)
            group.append(lines.popleft())
        self._bytes = max(0, self._bytes - size) if lines else 0
        # What a full disk took of a line ends here.
        begin = b"\n" * self._is_torn
        text = begin + b"".join(group)
        sent = 0
        try:
            while sent < len(text):
                if not self._is_writable():
                    raise BlockingIOError
                sent += os.write(self._descriptor, text[sent : sent + ATOMIC_BYTES])
        except BlockingIOError:
            rest = text[max(sent, len(begin)) :]
            self._lines.appendleft(rest)
            self._bytes += len(rest)
            self._is_torn &= sent == 0
            return None
        except OSError:  # the disk is full, or the pipe is closed
            self._is_torn = text[sent - 1 : sent] != b"\n" if sent else self._is_torn
            return text.count(b"\n", max(sent, len(begin)))
        self._is_torn = False
        return 0

    def _is_writable(self) -> bool:
        """Whether a write would not wait. Another process may fill a blocking pipe a moment later."""
        return self._poll is None or bool(self._poll.poll(0))


def _report(lines: int) -> bytes:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    fields = {"event": "log lines were lost", "lines": lines, "level": "warning", "timestamp": now}
    return json.dumps(fields).encode() + b"\n"


LINES = LineBuffer()
if hasattr(os, "register_at_fork"):  # not on all systems
    os.register_at_fork(after_in_child=LINES.forget)
