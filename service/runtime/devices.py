"""Device, threads and determinism: everything about the processor that the engines share."""

from __future__ import annotations

import torch

from ..errors import InvalidInput


def prepare(name: str) -> torch.device:
    """Choose the device, and set the process up so that a result never depends on its batch-mates.

    One intra-op thread: with two, a batch of three is split differently from a batch of one and the last bits
    differ. The engines run side by side on threads of their own instead.

    Args:
        name: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        InvalidInput: CUDA was asked for by name and there is none.
    """
    torch.set_num_threads(1)
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InvalidInput(f"device {name!r} was asked for, and torch sees no CUDA device", allowed=["auto", "cpu"])
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        raise InvalidInput(f"device {name!r} was asked for, and there are {', '.join(found)}", allowed=found)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
    return device


def describe(device: torch.device) -> str:
    """The processor's kind: answers are promised to be the same bytes on the same kind."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu {torch.backends.cpu.get_cpu_capability()}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that the device, or the process, ran out of memory."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # The CPU allocator has no class of its own for it.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
