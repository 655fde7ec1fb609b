"""Digits for the peers: the same generator and latents as the service, and a PNG as a careful user would write it.

Pillow takes twice as long for such a small picture, so the peers get the faster way. They also get the compiled loops
of the service, or torch, which is what a user has who only loads the checkpoint.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from service.formats.images import to_uint8
from service.gan import checkpoint, sampling

CHECKPOINTS = Path(__file__).resolve().parents[2] / "checkpoints"

Deflate = Callable[[bytes], bytes]


def deflate(raw: bytes) -> bytes:
    """The fastest level of zlib. On these pictures it saves as much as the default level."""
    return zlib.compress(raw, 1)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


HEAD = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 0))
END = _chunk(b"IEND", b"")


def png(image: NDArray[np.uint8], deflate: Deflate = deflate) -> bytes:
    """A grey image (32, 32) as a PNG without row filters. (PNG specification, 4.1 and 7.2.)"""
    rows = np.zeros((32, 33), np.uint8)
    rows[:, 1:] = image
    return HEAD + _chunk(b"IDAT", deflate(rows.tobytes())) + END


class Digits:
    """The generator in one process, with one thread: by the compiled loops of the service, or by torch."""

    def __init__(self, deflate: Deflate = deflate, by_torch: bool = False) -> None:
        torch.set_num_threads(1)
        self._generator = checkpoint.load(CHECKPOINTS)[0]
        self._sampler = self._by_torch if by_torch else sampling.Sampler(self._generator)
        self._deflate = deflate
        for count in (1, 64):
            self(range(count))

    def __call__(self, seeds: Sequence[int]) -> list[bytes]:
        """Image 0 of each seed as a PNG, all by one pass of the generator."""
        latents = np.concatenate([sampling.latents(seed, 1) for seed in seeds])
        return [png(image, self._deflate) for image in self._sampler(latents)]

    @torch.inference_mode()
    def _by_torch(self, latents: NDArray[np.float32]) -> NDArray[np.uint8]:
        return to_uint8(self._generator(torch.from_numpy(latents))[:, 0].numpy())
