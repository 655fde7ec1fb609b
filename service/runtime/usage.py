"""What this process uses: processor time, memory, files, and the garbage collector's work."""

from __future__ import annotations

import gc
import platform
import re
import sys
import time
from pathlib import Path

from .instruments import Counter, Description, Gauge, Instrument
from .line_buffer import LINES

PROC = Path("/proc/self")
_COLLECTED = {
    "collections": "Number of times this generation was collected",
    "collected": "Objects collected during gc",
    "uncollectable": "Uncollectable objects found during GC",
}


class Usage:
    """The instruments of one process, with the names that Prometheus' clients use.

    The values of several processes add up. The memory of each is its proportional share, because replicas share pages:
    a page that ten processes share counts as a tenth in each.
    """

    def __init__(self) -> None:
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

    def refresh(self) -> None:
        """Read the present values. Those of /proc are left out on systems without it."""
        self._processor.values[()] = time.process_time()
        self._lost.values[()] = LINES.lost
        for generation, counts in enumerate(gc.get_stats()):
            for name, counter in self._collector.items():
                counter.values[str(generation),] = counts[name]
        if sys.platform != "linux":
            return
        self._open.set(sum(1 for _ in (PROC / "fd").iterdir()))
        self._resident.set(proportional_bytes())
        limits = re.search(r"Max open files +(\d+)", (PROC / "limits").read_text())
        if limits:
            self._most.set(int(limits[1]))


def proportional_bytes() -> int:
    """The proportional share of this process in the memory that it has in common with others, in bytes."""
    found = re.search(r"^Pss: +(\d+) kB", (PROC / "smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
