"""The forward passes of the networks of a checkpoint, in this process or in the one that computes on a GPU."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..formats.images import UINT8
from ..runtime import devices
from ..runtime.device_client import DeviceClient
from ..runtime.device_link import Function
from .classifier import DIGITS
from .companions import Companions
from .cuda import CudaFunction, levels
from .networks import IMAGE_SIZE, LATENT_DIM, Discriminator, Generator
from .packing import Float32
from .sampling import FORWARD_ROWS, Sampler, logits

ModuleT = TypeVar("ModuleT", bound=nn.Module)

_IMAGE = (IMAGE_SIZE, IMAGE_SIZE)
# The functions of the process that computes on a GPU, by their numbers.
FUNCTIONS = (
    Function((LATENT_DIM,), _IMAGE, np.uint8),
    Function(_IMAGE, (), np.float32),
    Function(_IMAGE, (DIGITS,), np.float32),
    Function(_IMAGE, (), np.float32),
)
_DTYPES: dict[type[np.generic], torch.dtype] = {np.uint8: torch.uint8, np.float32: torch.float32}


class Passes(NamedTuple):
    """The forward passes. Images are (B, 32, 32) in [-1, 1]. Several threads may call, and rows are independent."""

    draw: Callable[[Float32], UINT8]
    """Images (B, 32, 32), in grey levels, of latents (B, 128)."""
    realness: Callable[[Float32], Float32]
    """Logits (B,) of the discriminator."""
    digits: Callable[[Float32], Float32] | None
    """Logits (B, 10) of the classifier; None without companions."""
    judge: Callable[[Float32], Float32] | None
    """Log of the probability (B,) with which rejection sampling keeps an image; None without companions."""
    on_processor: bool
    """Whether a call computes on a processor of this process, and not on a GPU."""


def local(
    generator: Generator, discriminator: Discriminator, device: torch.device, companions: Companions | None = None
) -> Passes:
    """Passes in this process."""
    if device.type == "cpu":
        networks: list[Callable[[Tensor], Tensor]] = [discriminator.logits]
        networks += [] if companions is None else [companions.classifier, companions.judge]
        return _of([Sampler(generator), *(partial(logits, network) for network in networks)], on_processor=True)
    return _of(on_cuda(generator, discriminator, device, companions), on_processor=False)


def on_cuda(
    generator: Generator, discriminator: Discriminator, device: torch.device, companions: Companions | None
) -> list[CudaFunction]:
    """FUNCTIONS on a GPU, with copies of the networks; without companions, only the first two.

    Raises:
        torch.OutOfMemoryError: the GPU has too little memory.
    """
    devices.check_memory(device)
    drawing = _copy(generator, device)
    networks: list[Callable[[Tensor], Tensor]] = [_copy(discriminator, device).logits]
    if companions is not None:
        there = companions._replace(
            classifier=_copy(companions.classifier, device), critic=_copy(companions.critic, device)
        )
        networks += [there.classifier, there.judge]
    computations = [lambda rows: levels(drawing(rows)[:, 0]), *map(_of_images, networks)]
    return [
        CudaFunction(compute, function.row, function.result, _DTYPES[function.dtype], device, FORWARD_ROWS)
        for compute, function in zip(computations, FUNCTIONS, strict=False)
    ]


def remote(client: DeviceClient, has_companions: bool) -> Passes:
    """Passes in the process that `client` calls."""
    count = len(FUNCTIONS) if has_companions else 2
    return _of([partial(client, number) for number in range(count)], on_processor=False)


def _of(functions: Sequence[Callable[[Float32], NDArray[Any]]], *, on_processor: bool) -> Passes:
    digits, judge = functions[2:] or (None, None)
    return Passes(functions[0], functions[1], digits, judge, on_processor)


def _copy(module: ModuleT, device: torch.device) -> ModuleT:
    return copy.deepcopy(module).to(device).eval()


def _of_images(network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda rows: network(rows[:, None])
