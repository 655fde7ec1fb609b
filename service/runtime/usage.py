"""What this process uses, and others that report through it: processor time, memory, files, and garbage collection."""

from __future__ import annotations

import gc
import math
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from .instruments import Counter, Description, Gauge, Instrument
from .line_buffer import LINES

PROC = Path("/proc/self")
# Seconds for which a reading of /proc counts. To add up the memory of a process takes the system 20 to 50 ms.
READING_SECONDS = 5.0
_TICKS = os.sysconf("SC_CLK_TCK") if sys.platform == "linux" else 1
_COLLECTED = {
    "collections": "Number of times this generation was collected",
    "collected": "Objects collected during gc",
    "uncollectable": "Uncollectable objects found during GC",
}


class Usage:
    """The instruments of one process, with the names that Prometheus' clients use.

    The values of several processes add up. The memory of each is its proportional share, because replicas share pages.
    A page that ten processes share counts as a tenth in each.

    `others` returns the ids of processes whose processor time, memory and files count here.
    """

    def __init__(self, others: Callable[[], Sequence[int]] = list) -> None:
        self._others = others
        self._reading = threading.Lock()
        self._read_at = -math.inf
        # The processor time of each, also of those that have ended, so that the total never decreases.
        self._seconds: dict[int, float] = {}
        self._processor = Counter(Description("process_cpu_seconds", "Processor time in seconds."))
        self._resident = Gauge(
            Description("process_resident_memory_bytes", "Resident memory in bytes; shared pages count once.")
        )
        self._started = Gauge(
            Description("process_start_time_seconds", "Start of the first process, in seconds of Unix time."), "min"
        )
        self._open = Gauge(Description("process_open_fds", "Open file descriptors."))
        self._most = Gauge(Description("process_max_fds", "Maximum file descriptors of one process."), "max")
        self._python = Gauge(
            Description("python_info", "Python platform information", ("implementation", "version")), "max"
        )
        self._collector = {
            name: Counter(Description(f"python_gc_{unit}", text, ("generation",)))
            for (name, text), unit in zip(
                _COLLECTED.items(), ("collections", "objects_collected", "objects_uncollectable"), strict=True
            )
        }
        self._lost = Counter(
            Description("latentserve_log_lines_lost", "Lines of the log that could not be written or formatted.")
        )
        self._python.set(1, (platform.python_implementation(), platform.python_version()))
        self._started.set(time.time())

    def instruments(self) -> list[Instrument]:
        """All instruments, in the order of the exposition."""
        return [
            self._processor,
            self._resident,
            self._started,
            self._open,
            self._most,
            self._python,
            *self._collector.values(),
            self._lost,
        ]

    def measure(self) -> None:
        """Read files and memory, unless they were read a moment ago. Call it on a thread: it takes tens of ms.

        On systems without /proc it does nothing.
        """
        if sys.platform != "linux":
            return
        with self._reading:
            if time.monotonic() - self._read_at < READING_SECONDS:
                return
            self._read_at = time.monotonic()
            files = memory = 0
            for folder in (PROC, *self._folders()):
                # A process has just ended, there are no more descriptors, or /proc lacks a file.
                with suppress(OSError):
                    files += open_files(folder)
                    memory += proportional_bytes(folder)
            self._open.set(files)
            self._resident.set(memory)
            with suppress(OSError):
                if limits := re.search(r"Max open files +(\d+)", (PROC / "limits").read_text()):
                    self._most.set(int(limits[1]))

    def refresh(self) -> None:
        """Set the values that are known at once. `measure` reads the others."""
        self._lost.values[()] = LINES.lost
        for generation, counts in enumerate(gc.get_stats()):
            for name, counter in self._collector.items():
                counter.values[str(generation),] = counts[name]
        for folder in self._folders():
            with suppress(OSError):
                pid = int(folder.name)
                # The maximum, because another process may get the id of one that has ended.
                self._seconds[pid] = max(self._seconds.get(pid, 0.0), processor_seconds(folder))
        self._processor.values[()] = time.process_time() + sum(self._seconds.values())

    def _folders(self) -> list[Path]:
        """The folders of other processes in /proc."""
        return [Path("/proc", str(pid)) for pid in self._others()] if sys.platform == "linux" else []


def open_files(folder: Path = PROC) -> int:
    """Open file descriptors of the process whose folder in /proc this is."""
    return sum(1 for _ in (folder / "fd").iterdir())


def processor_seconds(folder: Path = PROC) -> float:
    """Processor time of the process, in seconds."""
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / _TICKS  # user and system time: proc_pid_stat(5)


def proportional_bytes(folder: Path = PROC) -> int:
    """The proportional share of the process in the memory that it has in common with others, in bytes."""
    found = re.search(r"^Pss: +(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
