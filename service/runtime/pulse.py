"""The hang detector: how long the event loop of a process has stood still, although the process could run."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
# A pause between two looks counts for at most this many seconds. Longer ones are those of this process itself.
MOST_SECONDS = 2.0


class Pulse:
    """Checks one process again and again.

    Time does not count while a thread of the process waits for a processor. The event loop may need what it holds. Nor
    does it count while the process is stopped, as by SIGSTOP. Without /proc, all time counts.

    Args:
        counts_stops: whether time in which the process is stopped counts.
    """

    def __init__(self, *, counts_stops: bool = False) -> None:
        self._counts_stops = counts_stops
        self._pid = 0
        self._beat = 0.0
        self._at = 0.0
        self._waited: dict[str, float] = {}
        self.still_seconds = 0.0
        """Seconds that the event loop has stood still, up to the last look."""

    def look(self, pid: int, beat: float, now: float) -> float:
        """Look at process `pid` at the time `now`; `beat` changes with every turn of its event loop.

        Returns `still_seconds`.
        """
        if (pid, beat) != (self._pid, self._beat):
            self._pid, self._beat, self._waited, self.still_seconds = pid, beat, {}, 0.0
        else:
            waited = _waits(pid)
            starved = max((waited[thread] - self._waited.get(thread, waited[thread]) for thread in waited), default=0.0)
            if self._waited and (self._counts_stops or not _is_stopped(pid)):
                self.still_seconds += max(0.0, min(now - self._at, MOST_SECONDS) - starved)
            self._waited = waited or {"": 0.0}
        self._at = now
        return self.still_seconds


def _waits(pid: int) -> dict[str, float]:
    """For each thread, the seconds that it has waited for a processor so far."""
    found = {}
    with suppress(OSError):
        for thread in (PROC / str(pid) / "task").iterdir():
            with suppress(OSError, IndexError, ValueError):  # it has ended
                found[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return found


def _is_stopped(pid: int) -> bool:
    with suppress(OSError):
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] in {"T", "t"}
    return False
