"""Warnings about uploaded digits. The networks were trained on light digits on black, as MNIST has them."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..formats.images import UINT8

# An image is dark on light if its margin lies in the brightest quarter of its range. No MNIST image does, and every
# inverted one does (tests/service/gan/test_polarity.py); the margin of pure noise lies near the middle.
BRIGHT_FRACTION = 0.75
# In grey levels; an image with a smaller range shows no strokes.
MIN_RANGE = 32
# Images that a warning lists by index.
MAX_LISTED = 10


def is_dark_on_light(images: UINT8) -> NDArray[np.bool_]:
    """Whether each of `images` (n, H, W), in grey levels 0 to 255, shows dark strokes on a light ground: (n,).

    The level of the ground is the median of the outermost ring of pixels.
    """
    pixels = images.reshape(len(images), -1)
    levels = np.sort(pixels.take(_ring(*images.shape[1:]), axis=1), axis=1)
    count = levels.shape[1]
    # The median of each row; numpy's own takes three times as long for one image.
    ground = (levels[:, (count - 1) // 2].astype(np.float64) + levels[:, count // 2]) / 2
    darkest = pixels.min(axis=1).astype(np.float64)
    span = pixels.max(axis=1) - darkest
    dark: NDArray[np.bool_] = (span >= MIN_RANGE) & (ground - darkest > BRIGHT_FRACTION * span)
    return dark


@cache
def _ring(height: int, width: int) -> NDArray[np.int64]:
    """The indices of the outermost pixels of an image, row by row: (2·height + 2·width - 4,)."""
    ring = np.ones((height, width), np.bool_)
    ring[1:-1, 1:-1] = False
    return np.flatnonzero(ring)


def polarity_warnings(images: UINT8) -> list[str]:
    """One warning if any of `images` (n, H, W) is dark on light, with their indices and the cure; else none."""
    found = np.flatnonzero(is_dark_on_light(images)).tolist()
    if not found:
        return []
    return [
        f"{len(found)} of {len(images)} images are dark on light (index {_listed(found)}), and the networks were "
        "trained on light digits on black; invert: 255 - level"
    ]


def uniform_warnings(images: UINT8) -> list[str]:
    """One warning if any of `images` (n, H, W) has one grey level only, with their indices; else none."""
    pixels = images.reshape(len(images), -1)
    found = np.flatnonzero((pixels == pixels[:, :1]).all(axis=1)).tolist()
    if not found:
        return []
    return [f"{len(found)} of {len(images)} images have one grey level only and show no digit (index {_listed(found)})"]


def _listed(indices: list[int]) -> str:
    return ", ".join(map(str, indices[:MAX_LISTED])) + (", ..." if len(indices) > MAX_LISTED else "")
