"""Which images are in which step: epochs over shuffled images, in batches that may grow half way."""

from __future__ import annotations

from typing import NamedTuple

from training.config import ConfigError, GanConfig


class Plan(NamedTuple):
    """The steps of a run over `images` images; epochs and steps count from 0."""

    images: int
    epochs: int
    batch_size: int
    late_batches: int
    """How many times as large batches are from the middle epoch on."""

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.start(self.epochs)

    def size(self, epoch: int) -> int:
        """Images in a batch of `epoch`."""
        return self.batch_size * (self.late_batches if 2 * epoch >= self.epochs else 1)

    def batches(self, epoch: int) -> int:
        """Steps of `epoch`; what is left over of a shuffled epoch is not seen in it."""
        return self.images // self.size(epoch)

    def start(self, epoch: int) -> int:
        """The first step of `epoch`."""
        early = min(epoch, (self.epochs + 1) // 2)
        return early * self.batches(0) + (epoch - early) * self.batches(self.epochs - 1)

    def epoch(self, step: int) -> int:
        """The epoch that `step` is in; after the last step, the number of epochs."""
        return next((epoch for epoch in range(self.epochs) if step < self.start(epoch + 1)), self.epochs)


def plan(images: int, config: GanConfig, processes: int = 1) -> Plan:
    """The plan of a run with `images` training images, some of which it holds out.

    Raises ConfigError when those left are fewer than a batch, or a batch cannot be shared among the processes.
    """
    made = Plan(max(images - config.held_out, 0), config.epochs, config.batch_size, config.late_batches)
    if made.images < made.size(config.epochs - 1):
        raise ConfigError(
            f"batch_size is {made.size(config.epochs - 1)}, but {made.images} images are left to learn from: "
            f"{config.held_out} of {images} are held out"
        )
    if config.batch_size % processes:
        raise ConfigError(f"batch_size is {config.batch_size}, expected a multiple of the {processes} processes")
    return made
