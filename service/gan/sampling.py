"""Latents by seed, and the forward passes that serve them.

Image i of seed s is drawn by a counter-based generator keyed by (s, i) (Philox; Salmon, Moraes, Dror, Shaw, "Parallel
random numbers: as easy as 1, 2, 3", 2011), so it depends neither on how many images were asked for nor on anything
drawn before. The stream goes on behind that latent: where latents are chosen, it holds the candidates.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.special
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..formats.images import UINT8, from_uint8, to_uint8
from .networks import IMAGE_SIZE, LATENT_DIM, Discriminator, Generator

Float32 = NDArray[np.float32]
Network = Callable[[Tensor], Tensor]

# Rows of one forward pass. On CUDA every pass has exactly this many, zeros behind the last: there the kernel, and
# with it the rounding, is chosen by the shape, so that only one shape gives one answer.
FORWARD_ROWS = 64


def latents(seed: int, count: int, truncation: float = 1.0) -> Float32:
    """z ~ N(0, truncation² I) for images 0..count-1 of `seed` (0 <= seed < 2**64), shape (count, 128)."""
    rows = np.empty((count, LATENT_DIM), np.float32)
    for index, row in enumerate(rows):
        normals(seed, index).standard_normal(dtype=np.float32, out=row)
    return rows if truncation == 1 else truncate(rows, truncation)


def normals(seed: int, index: int) -> np.random.Generator:
    """The stream of image `index` of `seed`: its latent, and the candidates behind it."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))


def uniforms(seed: int, index: int) -> np.random.Generator:
    """The stream of the same key, at a counter that `normals` never reaches: what decides about its candidates."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64), counter=[0, 0, 0, 1]))


def truncate(rows: Float32, truncation: float) -> Float32:
    """ψ z, of the same shape: nearer to the origin, where latents are likelier (0 < ψ <= 1)."""
    return rows * np.float32(truncation)


def generate(generator: Generator, rows: Float32, device: torch.device) -> UINT8:
    """G(z) in 8-bit grey: (B, 128) -> (B, 32, 32)."""
    return to_uint8(_forward(generator, rows, device)[:, 0])


def probability_of_real(discriminator: Discriminator, images: Float32, device: torch.device) -> Float32:
    """D(x): (B, 32, 32) in [-1, 1] -> (B,) in [0, 1]."""
    # torch's sigmoid rounds the last few elements of an array by another routine than the rest; this one does not.
    probability: Float32 = scipy.special.expit(logits(discriminator.logits, images, device))
    return probability


def logits(network: Network, images: Float32, device: torch.device) -> Float32:
    """What `network` says of images (B, 32, 32) in [-1, 1]: (B,) of a discriminator, (B, 10) of a classifier."""
    return _forward(network, images[:, None], device)


def to_input(images: UINT8) -> Float32:
    """Levels (B, 32, 32), or (B, 28, 28) as MNIST has them, to (B, 32, 32) in [-1, 1], resized as in training."""
    if images.shape[-1] == IMAGE_SIZE:
        return from_uint8(images)
    scaled = nn.functional.interpolate(
        torch.from_numpy(images)[:, None].float() / 255,
        (IMAGE_SIZE, IMAGE_SIZE),
        mode="bilinear",
        align_corners=False,
    )
    resized: Float32 = (scaled[:, 0] * 2 - 1).numpy()
    return resized


@torch.inference_mode()
def _forward(network: Network, rows: Float32, device: torch.device) -> Float32:
    batch = torch.from_numpy(rows)
    parts = [_one_pass(network, part, device) for part in torch.split(batch, FORWARD_ROWS)]
    array: Float32 = torch.cat(parts).numpy()
    return array


def _one_pass(network: Network, rows: Tensor, device: torch.device) -> Tensor:
    count = len(rows)
    if device.type == "cuda":
        padding = torch.zeros((FORWARD_ROWS - count, *rows.shape[1:]), dtype=rows.dtype)
        rows = torch.cat([rows, padding])
    return network(rows.to(device))[:count].cpu()
