"""The steps of a run: epochs over shuffled images, in batches that may be larger in the second half."""

from __future__ import annotations

from typing import NamedTuple

from training.config import ConfigError, GanConfig


class Plan(NamedTuple):
    """The steps of a run over `images` images; epochs and steps count from 0."""

    images: int
    epochs: int
    batch_size: int
    late_batches: int
    """Factor by which batches are larger in the second half of the epochs."""

    @property
    def steps(self) -> int:
        """Number of steps of the run."""
        return self.start(self.epochs)

    def size(self, epoch: int) -> int:
        """Number of images in a batch of `epoch`."""
        return self.batch_size * (self.late_batches if 2 * epoch >= self.epochs else 1)

    def batches(self, epoch: int) -> int:
        """Number of steps of `epoch`. An incomplete last batch is omitted."""
        return self.images // self.size(epoch)

    def start(self, epoch: int) -> int:
        """The first step of `epoch`."""
        early = min(epoch, (self.epochs + 1) // 2)
        return early * self.batches(0) + (epoch - early) * self.batches(self.epochs - 1)

    def epoch(self, step: int) -> int:
        """The epoch of `step`; after the last step, the number of epochs."""
        return next((epoch for epoch in range(self.epochs) if step < self.start(epoch + 1)), self.epochs)


def plan(images: int, config: GanConfig, processes: int = 1) -> Plan:
    """The plan of a run over `images` training images, less those that `config` holds out.

    Raises ConfigError if the remaining images are fewer than a batch, or if a batch cannot be divided evenly among the
    processes.
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
