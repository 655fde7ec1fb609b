"""The generator's forward pass on a CUDA device: latents to grey levels.

Every pass has the same number of rows, so that an image's bytes do not depend on its batch. Two passes are on their way
at a time: while the device computes one, the latents and levels of the other are copied. The levels are computed on the
device, so that a pixel is one byte of the copy instead of four.
"""

from __future__ import annotations

import threading
from itertools import cycle, islice

import numpy as np
import torch
from torch import Tensor

from ..formats.images import UINT8
from .networks import IMAGE_SIZE, LATENT_DIM, Generator
from .packing import Float32

# Passes that are on their way at the same time.
PASSES = 2


class CudaGenerator:
    """G on a CUDA device. Several threads may call it; each has streams and buffers of its own.

    Args:
        generator: is moved to the device.
        device: of type "cuda".
        rows: of one pass. Missing ones are zeros.
    """

    def __init__(self, generator: Generator, device: torch.device, rows: int) -> None:
        self._generator = generator.to(device).eval()
        self._device = device
        self._rows = rows
        self._of_thread = threading.local()
        # The streams do not wait for the copies of the weights, which are in the default stream.
        torch.cuda.synchronize(device)

    def __call__(self, latents: Float32) -> UINT8:
        """Images G(z) (B, 32, 32), in 8-bit grey levels, of `latents` (B, 128)."""
        images = np.empty((len(latents), IMAGE_SIZE, IMAGE_SIZE), np.uint8)
        passes, rows = self._passes(), self._rows
        turns = cycle(passes)
        try:
            for start in range(0, len(latents), rows):
                turn = next(turns)
                turn.finish()
                turn.begin(latents[start : start + rows], images[start : start + rows])
            # The pass that began first ends first.
            for turn in islice(turns, PASSES):
                turn.finish()
        finally:  # after an error, no later call may write to these images
            for turn in passes:
                turn.forget()
        return images

    def _passes(self) -> list[_Pass]:
        passes: list[_Pass] | None = getattr(self._of_thread, "passes", None)
        if passes is None:
            passes = self._of_thread.passes = [_Pass(self._generator, self._device, self._rows) for _ in range(PASSES)]
        return passes


def levels(images: Tensor) -> Tensor:
    """The grey levels, 0 to 255, of `images` in (-1, 1) of any shape: the bytes of `formats.images.to_uint8`."""
    return ((images + 1) * 127.5).round().to(torch.uint8)


class _Pass:
    """One forward pass at a time, in a stream of its own, with page-locked memory for its inputs and outputs.

    The processor continues while the device copies from and to page-locked memory.
    """

    def __init__(self, generator: Generator, device: torch.device, rows: int) -> None:
        self._generator = generator
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._latents = _page_locked((rows, LATENT_DIM), torch.float32)
        self._levels = _page_locked((rows, IMAGE_SIZE, IMAGE_SIZE), torch.uint8)
        self._images: UINT8 | None = None

    @torch.inference_mode()
    def begin(self, latents: Float32, images: UINT8) -> None:
        """Start the pass of `latents` (b, 128), b ≤ rows, whose levels `finish` writes to `images` (b, 32, 32)."""
        rows = self._latents.numpy()
        rows[: len(latents)] = latents
        rows[len(latents) :] = 0
        with torch.cuda.stream(self._stream):
            inputs = self._latents.to(self._device, non_blocking=True)
            self._levels.copy_(levels(self._generator(inputs)[:, 0]), non_blocking=True)
            self._done.record(self._stream)
        self._images = images

    def finish(self) -> None:
        """Wait for the pass, and write its images, if one has begun."""
        images, self._images = self._images, None
        if images is not None:
            self._done.synchronize()
            images[:] = self._levels.numpy()[: len(images)]

    def forget(self) -> None:
        """Leave the images of a pass that has begun as they are."""
        self._images = None


def _page_locked(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, pin_memory=True)
