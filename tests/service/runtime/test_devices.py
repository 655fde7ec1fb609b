"""Device and determinism settings, and the recognition of out-of-memory errors."""

from __future__ import annotations

import contextlib

import pytest
import torch

from service.errors import InvalidInput
from service.runtime import devices


def test_errors_of_the_allocators_count_as_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**50)
    assert devices.is_out_of_memory(failure.value)
    assert devices.is_out_of_memory(MemoryError())
    assert devices.is_out_of_memory(torch.OutOfMemoryError())
    # As the process of the GPU reports it, whose error has another type here.
    assert devices.is_out_of_memory(RuntimeError("the computation on the device failed: CUDA out of memory. Tried to"))
    assert not devices.is_out_of_memory(RuntimeError("shapes do not match"))


def test_a_missing_device_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cuda:99"):
        devices.prepare("cuda:99")


def test_one_intra_op_thread_keeps_results_independent_of_the_batch() -> None:
    assert devices.prepare("cpu") == torch.device("cpu")
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("free", "is_enough"), [(devices.GPU_BYTES, True), (devices.GPU_BYTES - 1, False)])
def test_a_gpu_with_too_little_memory_is_refused_before_it_chooses_algorithms(
    free: int, is_enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 2**40))
    with contextlib.nullcontext() if is_enough else pytest.raises(torch.OutOfMemoryError, match="512 are needed"):
        devices.check_memory(torch.device("cuda"))
