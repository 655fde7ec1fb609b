"""Device, threads and determinism: the settings of the processor that all engines share."""

from __future__ import annotations

import torch

from ..errors import InvalidInput

# What a RuntimeError says that means a lack of memory. The second comes from the process that computes on a GPU.
OUT_OF_MEMORY = (
    "can't allocate memory",
    "cuda out of memory",
    "cuda error: out of memory",
    "cublas_status_alloc_failed",
)
# Bytes that the networks and their graphs take on a GPU, beside what CUDA itself takes.
GPU_BYTES = 512 * 2**20


def prepare(name: str) -> torch.device:
    """Choose the device, and configure torch so that a result does not depend on its batch.

    torch uses one intra-op thread. With two, torch would split a batch of three differently from a batch of one. The
    last bits would differ. Instead, each lane runs on a thread of its own.

    Args:
        name: "auto", "cpu", "cuda" or "cuda:N". "auto" prefers CUDA.

    Raises:
        InvalidInput: torch does not find the CUDA device that `name` requests.
    """
    torch.set_num_threads(1)
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InvalidInput(f"device {name!r} was requested, but torch finds no CUDA device", allowed=["auto", "cpu"])
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        raise InvalidInput(f"device {name!r} was requested, but torch finds only {', '.join(found)}", allowed=found)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
    return device


def check_memory(device: torch.device) -> None:
    """Check that a GPU has enough memory for the networks.

    With too little, cuDNN would choose other algorithms, which need less, and the bytes of the results would differ.

    Raises:
        torch.OutOfMemoryError: others use too much of the memory.
    """
    free, _ = torch.cuda.mem_get_info(device)
    if free < GPU_BYTES:
        raise torch.OutOfMemoryError(f"the GPU has {free >> 20} MiB of free memory, and {GPU_BYTES >> 20} are needed")


def describe(device: torch.device) -> str:
    """The kind of the processor. Answers are guaranteed to be byte-identical only on one kind."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"


def computes(device: torch.device) -> bool:
    """Whether the device computes, or only lacks memory.

    After a failed assertion, an illegal access to memory or a fault of the hardware, every call of CUDA in the process
    fails, and CUDA reports it at some later call. So the names of errors do not tell, but a small computation does.
    """
    if device.type == "cpu":
        return True
    try:
        return float(torch.ones(2, device=device).sum()) == 2
    except (RuntimeError, MemoryError) as error:
        return is_out_of_memory(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` means that the device or the process ran out of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # The CPU's allocator, CUDA's own calls and cuBLAS raise plain ones.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in OUT_OF_MEMORY)
