"""Random translation of the discriminator's input. A shift of a pixel changes no digit into another."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

BLACK = -1.0


def translate(images: Tensor, shifts: Tensor, limit: int) -> Tensor:
    """Shift each of images (B, 1, H, W) in [-1, 1] by its row of `shifts`, on a black background.

    `shifts` (B, 2) int64 are in pixels, down and right, each within ±`limit`. Differentiable in the images.

    Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020): real and generated images need
    the same augmentation, and the generator's gradient passes through it.
    """
    height, width = images.shape[2:]
    # Pixels that leave the image are lost, so the margin need not be wider than the image.
    high, wide = min(limit, height), min(limit, width)
    padded = pad(images, (wide, wide, high, high), value=BLACK).flatten(1)
    row = width + 2 * wide
    corners = (high - shifts[:, 0].clamp(-high, high)) * row + wide - shifts[:, 1].clamp(-wide, wide)
    rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
    places = corners[:, None] + (rows[:, None] * row + columns).flatten()
    return padded.gather(1, places).view(-1, 1, height, width)
