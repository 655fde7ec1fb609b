"""Samples of a generator, as 8-bit images."""

from __future__ import annotations

import torch
from torch import Tensor

from service.gan.networks import LATENT_DIM, Generator
from training.figures import to_uint8


@torch.inference_mode()
def sample(generator: Generator, latents: Tensor, batch_size: int = 100) -> Tensor:
    """Images (N, 1, 32, 32) uint8 on the CPU of `latents` (N, 128), computed in float32."""
    device = next(generator.parameters()).device
    batches = torch.split(latents, batch_size)
    return torch.cat([to_uint8(generator(batch.to(device))).cpu() for batch in batches])


def fixed_latents(count: int, seed: int = 0) -> Tensor:
    """Latents (count, 128) from N(0, I), the same in every run."""
    return torch.randn(count, LATENT_DIM, generator=torch.Generator().manual_seed(seed))
