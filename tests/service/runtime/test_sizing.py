"""The default number of processes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from service.runtime.sizing import GIB, Resources, Size, default_size, limit, processor_quota

AMPLE = Resources(cores=16, quota=math.inf, memory=64 * GIB, pids=math.inf)


@pytest.mark.parametrize(
    ("less", "expected"),
    [
        ({}, Size(16, "processors")),
        ({"quota": 2.5}, Size(2, "processor quota")),
        ({"memory": 6 * GIB}, Size(10, "memory")),
        ({"pids": 256}, Size(6, "pids")),
    ],
)
def test_the_scarcest_resource_decides(less: dict[str, object], expected: Size) -> None:
    assert default_size(AMPLE._replace(**less)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("less", [{"quota": 0.5}, {"memory": GIB / 2}, {"pids": 10}])
def test_there_is_at_least_one_process(less: dict[str, object]) -> None:
    assert default_size(AMPLE._replace(**less)).processes == 1  # type: ignore[arg-type]


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


def memory(root: Path, groups: str) -> float:
    return limit(root, groups, "memory", "memory.max", "memory.limit_in_bytes")


def test_of_nested_control_groups_the_least_limit_counts(tmp_path: Path) -> None:
    files = {"a/memory.max": "300", "a/b/memory.max": "max", "a/cpu.max": "max 100000", "a/b/cpu.max": "150000 100000"}
    root = write(tmp_path, files)
    assert memory(root, "0::/a/b\n") == 300
    assert processor_quota(root, "0::/a/b\n") == 1.5
    assert processor_quota(root, "0::/a\n") == memory(root, "0::/elsewhere\n") == math.inf


def test_control_groups_of_version_1_have_a_folder_for_each_controller(tmp_path: Path) -> None:
    files = {
        "memory/x/memory.limit_in_bytes": "500",
        "cpu/cpu.cfs_quota_us": "200000",
        "cpu/cpu.cfs_period_us": "50000",
        "cpu/x/cpu.cfs_quota_us": "-1",
        "cpu/x/cpu.cfs_period_us": "100000",
        "pids/pids.max": "max",
    }
    groups = "4:memory:/x\n1:cpu,cpuacct:/x\n8:pids:/\n0::/\n"
    root = write(tmp_path, files)
    assert memory(root, groups) == 500
    assert processor_quota(root, groups) == 4
    assert limit(root, groups, "pids", "pids.max", "pids.max") == math.inf


def test_in_a_container_the_path_on_the_host_is_not_there_and_the_mount_has_the_limit(tmp_path: Path) -> None:
    root = write(tmp_path, {"memory/memory.limit_in_bytes": "700", "memory.max": "900"})
    assert memory(root, "4:memory:/docker/0123\n") == 700
    assert memory(root, "0::/docker/0123\n") == 900
