"""The time that remains to decode the files of a request."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ...errors import DeadlineExceeded


class Deadline:
    """The time by which files must be decoded. One thread decodes, and another may cancel.

    Args:
        seconds: the time from now on; None for no deadline.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._end = math.inf if seconds is None else time.monotonic() + seconds
        self._cancelled = False
        self._stop: Callable[[], None] = _nothing
        self._lock = threading.Lock()

    def left(self) -> float:
        """Seconds until the deadline, > 0; infinite without a deadline.

        Raises:
            DeadlineExceeded: the deadline has passed, or `cancel` was called.
        """
        if self._cancelled:
            raise DeadlineExceeded("the request was cancelled while its files were decoded")
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise DeadlineExceeded("the request's files were not decoded before its deadline")
        return seconds

    def cancel(self) -> None:
        """End the remaining time now, because the result is no longer needed."""
        with self._lock:
            self._cancelled = True
            self._stop()

    @contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """Run the block, and call `stop` if `cancel` is called before its end. `stop` may run on another thread."""
        with self._lock:
            self._stop = stop
            if self._cancelled:
                stop()
        try:
            yield
        finally:
            with self._lock:
                self._stop = _nothing


def _nothing() -> None:
    pass
