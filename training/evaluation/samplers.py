"""The ways in which images are drawn from a checkpoint, each a row of the evaluation: further ones are added here."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from service.gan import sampling
from service.gan.networks import Generator

Draw = Callable[[int, int], Tensor]
"""(seed, count) to images (count, 1, 32, 32) uint8, as the service draws them."""

PLAIN = "plain"


def samplers(generator: Generator) -> dict[str, Draw]:
    """The samplers by name, in the order of the rows; the first draws every latent as it comes."""

    def plain(seed: int, count: int) -> Tensor:
        images = sampling.generate(generator, sampling.latents(seed, count), torch.device("cpu"))
        return torch.from_numpy(images)[:, None]

    return {PLAIN: plain}
