"""The default number of processes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from service.runtime import sizing
from service.runtime.sizing import GIB, Gpu, Resources, Size, default_size, limit, named_gpu, processor_quota

AMPLE = Resources(cores=16, quota=math.inf, memory=64 * GIB, pids=math.inf, gpu=None)
LISTED = """\
0, GPU-aaaa, 81000, Default
1, GPU-bbbb, 4096, Default
2, GPU-cccc, 4096, Exclusive_Process
3, GPU-dddd, [N/A], Default
"""


@pytest.mark.parametrize(
    ("less", "expected"),
    [
        ({}, Size(16, "processors")),
        ({"quota": 2.5}, Size(2, "processor quota")),
        ({"memory": 6 * GIB}, Size(10, "memory")),
        ({"pids": 256}, Size(12, "pids")),
        ({"gpu": Gpu(7.5 * GIB, False)}, Size(7, "GPU memory")),
        ({"gpu": Gpu(64 * GIB, False)}, Size(16, "processors")),
        ({"gpu": Gpu(64 * GIB, True)}, Size(1, "exclusive GPU")),
    ],
)
def test_the_scarcest_resource_decides(less: dict[str, object], expected: Size) -> None:
    assert default_size(AMPLE._replace(**less)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("less", [{"quota": 0.5}, {"memory": GIB / 2}, {"pids": 10}, {"gpu": Gpu(0, False)}])
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


@pytest.mark.parametrize(
    ("number", "visible", "expected"),
    [
        (0, None, Gpu(81000 * 2.0**20, False)),
        (1, None, Gpu(4096 * 2.0**20, False)),
        (2, None, Gpu(math.inf, True)),
        (3, None, Gpu(math.inf, True)),
        (4, None, None),
        (0, "1,0", Gpu(4096 * 2.0**20, False)),
        (1, "GPU-cc, GPU-aa", Gpu(81000 * 2.0**20, False)),
        (0, "MIG-eeee", Gpu(math.inf, True)),
        (0, "", None),
    ],
)
def test_the_gpu_is_the_one_that_torch_numbers(number: int, visible: str | None, expected: Gpu | None) -> None:
    assert named_gpu(LISTED, number, visible) == expected


def test_a_driver_without_nvidia_smi_may_have_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizing, "find_gpu", lambda device, environment: None)
    node = tmp_path / "nvidiactl"
    assert not sizing.may_have_gpu("auto", {}, [node])
    node.touch()
    assert sizing.may_have_gpu("auto", {}, [node])
