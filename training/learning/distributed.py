"""Several processes that train one model together, as torchrun starts them: each takes its share of every batch.

All draw the same noise and the same order of images, and keep the same weights; gradients are averaged. A run gives
the same model with any number of processes, up to rounding, and to what looks at a share as a whole: the statistics of
batch normalisation, and the choice of the images that the penalties are computed at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, distributed, nn

from training.config import ConfigError


class Group(NamedTuple):
    """This process among those that train together."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def share(self, batch: Tensor, dim: int = 0) -> Tensor:
        """This process's part of `batch`, whose length along `dim` is a multiple of the number of processes."""
        return batch.chunk(self.size, dim)[self.rank]

    def average_gradients(self, module: nn.Module) -> None:
        """Replace the gradients of `module` by their mean over all processes."""
        if self.size > 1:
            gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
            flat = self.average(torch.cat([gradient.reshape(-1) for gradient in gradients]))
            for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def average(self, values: Tensor) -> Tensor:
        """The mean of `values`, of any shape, over all processes."""
        if self.size > 1:
            distributed.all_reduce(values)
            values = values / self.size
        return values

    def any(self, flag: bool, device: str) -> bool:
        """Whether `flag` is set in any process: all of them learn it in the same step."""
        return flag if self.size == 1 else bool(self.average(torch.tensor(float(flag), device=device)) > 0)

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()


ALONE = Group()


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """The group that torchrun's environment names, for as long as the context lasts; without one, this process alone.

    `device` is `cpu`, `cuda` or `auto`. Raises ConfigError when there are fewer GPUs here than processes.
    """
    if "WORLD_SIZE" not in os.environ:
        yield ALONE
        return
    local = int(os.environ["LOCAL_RANK"])
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"there are {torch.cuda.device_count()} GPUs for process {local}; start fewer, or --device cpu"
            )
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
