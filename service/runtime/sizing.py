"""The default number of processes: as many as the processors, the memory and the limit of pids allow."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

GIB = 2**30
# Memory of the first process and of all that they share, and of each process with its requests.
SHARED_BYTES = 1 * GIB
PROCESS_BYTES = GIB // 2
# The most threads of one process, which the limit of pids counts. Each of seven lanes has four; others parse, encode
# and measure.
PROCESS_PIDS = 40


class Resources(NamedTuple):
    """What the machine, or the container, has. A limit that is not set is infinite."""

    cores: int
    """Processors that this process may run on."""
    quota: float
    """Processors' time that the container may use, in processors."""
    memory: float
    """Bytes."""
    pids: float
    """Threads of all processes."""


class Size(NamedTuple):
    """A number of processes, and what limits it."""

    processes: int
    limited_by: str


def default_size(resources: Resources) -> Size:
    """The least of what each resource allows, and at least 1."""
    allowed = {
        "processors": float(resources.cores),
        "processor quota": resources.quota,
        "memory": (resources.memory - SHARED_BYTES) / PROCESS_BYTES,
        "pids": resources.pids / PROCESS_PIDS,
    }
    reason = min(allowed, key=lambda name: allowed[name])
    return Size(max(1, math.floor(allowed[reason])), reason)


def choose() -> Size:
    """The default on this machine."""
    if sys.platform != "linux":
        return Size(1, "operating system")
    root, proc = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
    groups = proc.read_text() if proc.exists() else ""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return default_size(
        Resources(
            processors(),
            processor_quota(root, groups),
            min(physical, limit(root, groups, "memory", "memory.max", "memory.limit_in_bytes")),
            limit(root, groups, "pids", "pids.max", "pids.max"),
        )
    )


def processors() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def limit(root: Path, groups: str, controller: str, unified: str, legacy: str) -> float:
    """The least limit of a controller in the process's control group and those above it; infinite if there is none.

    Args:
        root: where the control groups are mounted: /sys/fs/cgroup.
        groups: the content of /proc/self/cgroup.
        controller: such as memory.
        unified: the file of the limit in version 2 of control groups.
        legacy: its file in version 1.
    """
    texts = [text for name in {unified, legacy} for text in _texts(root, groups, controller, name)]
    return min((float(text) for text in texts if text.isdigit()), default=math.inf)


def processor_quota(root: Path, groups: str) -> float:
    """The least quota of processor time in the process's control group and those above it, in processors."""
    found = [math.inf]
    for text in _texts(root, groups, "cpu", "cpu.max"):
        quota, _, period = text.partition(" ")
        if quota != "max":
            found.append(int(quota) / int(period))
    quotas, periods = (_texts(root, groups, "cpu", f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    found += [int(quota) / int(period) for quota, period in zip(quotas, periods, strict=False) if int(quota) > 0]
    return min(found)


def _texts(root: Path, groups: str, controller: str, name: str) -> Iterator[str]:
    """The contents of the files `name` of a controller, from the process's group upwards."""
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in {"", controller} and controller not in controllers.split(","):
            continue
        for mount in [root / controller] if controllers else [root, root / "unified"]:
            # In a container, the path may be that on the host, while the mount begins at the container's own group.
            group = mount / path.strip("/")
            while group.is_relative_to(mount):
                if (group / name).is_file():
                    yield (group / name).read_text().strip()
                group = group.parent
