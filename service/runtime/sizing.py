"""The default number of processes: as many as the processors, the memory, the limit of pids and the GPU allow."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

GIB = 2**30
# Memory of the first process and of all that they share, and of each process with its requests.
SHARED_BYTES = 1 * GIB
PROCESS_BYTES = GIB // 2
# Threads of one process. The limit of pids counts threads.
PROCESS_PIDS = 20
# Memory of the GPU that one process takes: the context, the networks and a batch.
GPU_BYTES = 1 * GIB
NVIDIA_SMI_SECONDS = 10
# Files of the drivers, on Linux and on Windows' subsystem for Linux.
GPU_NODES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))


class Gpu(NamedTuple):
    """The GPU that will compute: its free memory in bytes, and whether only one process may use it."""

    free_bytes: float
    is_exclusive: bool


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
    gpu: Gpu | None


class Size(NamedTuple):
    """A number of processes, and what limits it."""

    processes: int
    limited_by: str


def default_size(resources: Resources) -> Size:
    """The least of what each resource allows, and at least 1."""
    gpu = resources.gpu
    allowed = {
        "processors": float(resources.cores),
        "processor quota": resources.quota,
        "memory": (resources.memory - SHARED_BYTES) / PROCESS_BYTES,
        "pids": resources.pids / PROCESS_PIDS,
    }
    if gpu is not None:
        allowed["exclusive GPU" if gpu.is_exclusive else "GPU memory"] = (
            1.0 if gpu.is_exclusive else gpu.free_bytes / GPU_BYTES
        )
    reason = min(allowed, key=lambda name: allowed[name])
    return Size(max(1, math.floor(allowed[reason])), reason)


def choose(device: str, *, has_cuda: bool) -> Size:
    """The default on this machine, for the setting `device`. `has_cuda`: whether torch is a build with CUDA.

    CUDA itself is not asked: a process that has used it cannot be forked.
    """
    if sys.platform != "linux":
        return Size(1, "operating system")
    gpu = find_gpu(device, os.environ) if has_cuda and device != "cpu" else None
    root, proc = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
    groups = proc.read_text() if proc.exists() else ""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return default_size(
        Resources(
            processors(),
            processor_quota(root, groups),
            min(physical, limit(root, groups, "memory", "memory.max", "memory.limit_in_bytes")),
            limit(root, groups, "pids", "pids.max", "pids.max"),
            gpu,
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


def may_have_gpu(device: str, environment: Mapping[str, str], nodes: Sequence[Path] = GPU_NODES) -> bool:
    """Whether there may be a GPU for the setting `device`. A container may have one, but no nvidia-smi."""
    return find_gpu(device, environment) is not None or any(node.exists() for node in nodes)


def find_gpu(device: str, environment: Mapping[str, str]) -> Gpu | None:
    """The GPU that torch will use for the setting `device`, as nvidia-smi reports it; None if there is none."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    query = [command, "--query-gpu=index,uuid,memory.free,compute_mode", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=NVIDIA_SMI_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    number = int(device.partition(":")[2] or 0)
    return named_gpu(listed, number, environment.get("CUDA_VISIBLE_DEVICES"))


def named_gpu(listed: str, number: int, visible: str | None) -> Gpu | None:
    """The GPU with torch's `number` in the lines `index, uuid, free MiB, compute mode` of nvidia-smi.

    `visible` is CUDA_VISIBLE_DEVICES: indices or the beginnings of uuids, in torch's order. A GPU whose free memory is
    unknown, such as a part of one (MIG), counts as exclusive.
    """
    rows = [re.split(r"\s*,\s*", line.strip()) for line in listed.splitlines() if line.strip()]
    names = [row[0] for row in rows] if visible is None else [name.strip() for name in visible.split(",")]
    if number >= len(names) or not names[number]:
        return None
    if names[number].startswith("MIG"):
        return Gpu(math.inf, True)
    for index, uuid, free, mode in rows:
        if names[number] == index or uuid.startswith(names[number]):
            return Gpu(int(free) * 2.0**20, False) if free.isdigit() and mode == "Default" else Gpu(math.inf, True)
    return None
