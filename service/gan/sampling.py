"""Latents by seed, and the forward passes of the networks.

A counter-based generator with the key (s, i) draws image i of seed s (Philox; Salmon, Moraes, Dror, Shaw, "Parallel
random numbers: as easy as 1, 2, 3", 2011). An image therefore depends neither on the number of images nor on earlier
draws. If latents are chosen, the candidates follow in the same stream.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..formats.images import UINT8, from_uint8
from .drawing import draw
from .networks import IMAGE_SIZE, LATENT_DIM, Generator
from .packing import Float32, pack

Network = Callable[[Tensor], Tensor]

# Rows of one forward pass of torch. On CUDA every pass has exactly this many, because the shape determines the kernel
# and thereby the rounding.
FORWARD_ROWS = 64


class _Stream(threading.local):
    """One generator for each thread, which is set to the start of one stream after another.

    A new generator for each image would take longer than its latent.
    """

    def __init__(self) -> None:
        self._bits = np.random.Philox(key=0)
        self._normals = np.random.Generator(self._bits)

    def fill(self, seed: int, index: int, row: Float32) -> None:
        """Draw the latent `row` (128,) of image `index` of `seed`: the first numbers of `normals`."""
        # The state of a new generator: counter and buffer are empty, and no half of a number is left.
        state: Any = {
            "bit_generator": "Philox",
            "state": {"counter": (0, 0, 0, 0), "key": (seed, index)},
            "buffer": (0, 0, 0, 0),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }
        self._bits.state = state
        self._normals.standard_normal(dtype=np.float32, out=row)


_stream = _Stream()


def latents(seed: int, count: int, truncation: float = 1.0) -> Float32:
    """Latents (count, 128) of images 0 to count - 1 of `seed`, z ~ N(0, truncation² I), for 0 ≤ seed < 2**64."""
    rows = np.empty((count, LATENT_DIM), np.float32)
    for index, row in enumerate(rows):
        _stream.fill(seed, index, row)
    return rows if truncation == 1 else truncate(rows, truncation)


def normals(seed: int, index: int) -> np.random.Generator:
    """The random stream of image `index` of `seed`: its latent, then its further candidates."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))


def uniforms(seed: int, index: int) -> np.random.Generator:
    """The stream that decides about the candidates: the same key, at a counter that `normals` never reaches."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64), counter=[0, 0, 0, 1]))


def truncate(rows: Float32, truncation: float) -> Float32:
    """ψ z for latents `rows` (B, 128), with 0 < ψ ≤ 1: closer to the origin, where latents are more likely."""
    return rows * np.float32(truncation)


class Sampler:
    """G on the processor, as compiled loops. Later changes of the module's weights have no effect."""

    def __init__(self, generator: Generator) -> None:
        self._generator = pack(generator)

    def __call__(self, rows: Float32) -> UINT8:
        """Images G(z) (B, 32, 32), in 8-bit grey levels, of latents `rows` (B, 128)."""
        return draw(self._generator, rows)


@torch.inference_mode()
def logits(network: Network, images: Float32) -> Float32:
    """Outputs of `network` on the processor for `images` (B, 32, 32) in [-1, 1]: (B,) for a discriminator, (B, 10) for
    a classifier.
    """
    parts = torch.split(torch.from_numpy(images[:, None]), FORWARD_ROWS)
    found: Float32 = torch.cat([network(part) for part in parts]).numpy()
    return found


def to_input(images: UINT8) -> Float32:
    """Inputs (B, 32, 32) in [-1, 1] for `images` (B, 32, 32) or (B, 28, 28) in grey levels, resized as in training."""
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
