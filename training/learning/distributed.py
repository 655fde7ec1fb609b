"""Training of one model in several processes, as torchrun starts them. Each process takes its share of every batch.

All processes draw the same noise and the same order of images, and keep the same weights. Gradients are averaged. The
model does not depend on the number of processes, with three exceptions: rounding, the statistics of batch normalisation
and the images at which penalties are computed. The last two are those of a share.
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
    """The rank of this process, and the number of processes that train together."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files and the messages."""
        return self.rank == 0

    def share(self, batch: Tensor, dim: int = 0) -> Tensor:
        """This process's share of `batch`, whose length along `dim` is a multiple of the number of processes."""
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
        """Whether `flag` is set in any process. All processes get the same answer in the same step."""
        return flag if self.size == 1 else bool(self.average(torch.tensor(float(flag), device=device)) > 0)

    def wait(self) -> None:
        """Wait until all processes have called this method."""
        if self.size > 1:
            distributed.barrier()


ALONE = Group()


@contextmanager
def process_group(device: str) -> Iterator[Group]:
    """A context with the group that torchrun's environment names, or with this process alone.

    `device` is `cpu`, `cuda` or `auto`. Raises ConfigError if there are fewer GPUs than processes.
    """
    if "WORLD_SIZE" not in os.environ:
        yield ALONE
        return
    local = int(os.environ["LOCAL_RANK"])
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"process {local} has no GPU, because there are {torch.cuda.device_count()}; start fewer processes, "
                "or use --device cpu"
            )
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
