"""Translation of images, the one change of a digit that leaves it the digit it was wherever the discriminator looks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

BLACK = -1.0


def translate(images: Tensor, shifts: Tensor, most: int) -> Tensor:
    """Images (B, 1, H, W) in [-1, 1], each moved down and right by its row of `shifts` (B, 2) int64, black behind.

    No shift is of more than `most` pixels.

    Differentiable in the images. Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training" (2020):
    real and generated images have to be moved alike, and the generator's gradient goes through the move.
    """
    height, width = images.shape[2:]
    # What is moved out is lost, so that the margin need not be wider than the image.
    high, wide = min(most, height), min(most, width)
    padded = pad(images, (wide, wide, high, high), value=BLACK).flatten(1)
    row = width + 2 * wide
    corners = (high - shifts[:, 0].clamp(-high, high)) * row + wide - shifts[:, 1].clamp(-wide, wide)
    rows, columns = (torch.arange(side, device=images.device) for side in (height, width))
    places = corners[:, None] + (rows[:, None] * row + columns).flatten()
    return padded.gather(1, places).view(-1, 1, height, width)
