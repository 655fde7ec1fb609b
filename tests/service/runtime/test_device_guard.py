"""A device that is lost ends its process, and a fault of one job does not."""

from __future__ import annotations

import pytest
import torch

from service.errors import DeviceLost, InvalidInput
from service.runtime import devices
from service.runtime.batching import Batcher
from service.runtime.device_guard import DeviceGuard
from tests.service.runtime.batchers import run

# What torch raises for faults of a device: failed assertions in a kernel, illegal accesses, faults of the hardware.
FAULTS = [
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    torch.AcceleratorError("CUDA error: unspecified launch failure"),
    torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm"),
]


def failing(error: Exception) -> list[int]:
    raise error


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_after_which_the_device_does_not_compute_loses_it_for_all_later_jobs(fault: Exception) -> None:
    lost: list[Exception] = []
    guard, calls = DeviceGuard(lambda: False, lost.append), list[int]()

    def worker(jobs: list[int]) -> list[int]:
        calls.extend(jobs)
        return failing(fault) if 3 in jobs else jobs

    async def story(batcher: Batcher[int, int]) -> None:
        assert await batcher.submit(1) == 1
        for job in (3, 4):
            with pytest.raises(DeviceLost):
                await batcher.submit(job)

    run(story, guard.guarded(worker))
    assert (guard.is_lost, lost, calls) == (True, [fault], [1, 3])


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_after_which_the_device_computes_is_that_of_the_job(fault: Exception) -> None:
    guard = DeviceGuard(lambda: True)
    with pytest.raises(type(fault)):
        guard.guarded(lambda _: failing(fault))([1])
    assert not guard.is_lost


def test_a_refusal_says_nothing_about_the_device() -> None:
    guard = DeviceGuard(lambda: False)
    with pytest.raises(InvalidInput):
        guard.guarded(lambda _: failing(InvalidInput("no")))([1])
    assert not guard.is_lost


def test_a_processor_computes() -> None:
    assert devices.computes(torch.device("cpu"))


@pytest.mark.parametrize(
    ("error", "computes"),
    [
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (torch.AcceleratorError("CUDA error: out of memory"), True),
    ],
)
def test_a_device_without_memory_computes_and_one_that_raises_otherwise_does_not(
    error: Exception, computes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "ones", lambda *_, **__: failing(error))
    assert devices.computes(torch.device("cuda")) is computes
