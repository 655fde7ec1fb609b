"""What the processes of a service hold: memory, descriptors, threads."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.serving.processes import descendants

PAGE = os.sysconf("SC_PAGE_SIZE")


class Resources(NamedTuple):
    """Sums over the processes of a service at one time."""

    # MB; a page that several processes share counts once. Pages of files do not count: other programs that map the same
    # libraries share them, so that the part of this service would rise when such a program ends.
    pss: float
    rss: float  # MB; it counts once for each
    descriptors: int
    threads: int
    processes: int


def resources(pid: int) -> Resources:
    """What the process `pid` and its descendants hold now. Those that end meanwhile are left out."""
    pss = rss = 0.0
    descriptors = threads = processes = 0
    for one in descendants(pid):
        folder = Path(f"/proc/{one}")
        with suppress(OSError):
            rollup = (folder / "smaps_rollup").read_text().splitlines()
            statm = (folder / "statm").read_text().split()
            found = len(os.listdir(folder / "fd"))  # noqa: PTH208
            threads += int((folder / "stat").read_text().rpartition(")")[2].split()[17])
            own = (int(line.split()[1]) for line in rollup if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
            pss += sum(own) * 1024 / 1e6
            rss += int(statm[1]) * PAGE / 1e6
            descriptors += found
            processes += 1
    return Resources(pss, rss, descriptors, threads, processes)
