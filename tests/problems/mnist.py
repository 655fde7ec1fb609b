"""A small data set in MNIST's format, which two epochs can learn something from."""

from __future__ import annotations

import struct
from pathlib import Path

import torch

TRAIN, TEST = 160, 96


def write_split(folder: Path, prefix: str, count: int) -> None:
    """Images of one bright bar each, at a place that depends on the label, on a dark background.

    Both are noisy: an area of equal pixels would leave the choice of a maximum in it to rounding.
    """
    generator = torch.Generator().manual_seed(count)
    labels = torch.arange(count) % 10
    images = torch.randint(0, 60, (count, 28, 28), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        bar = torch.randint(196, 256, (4, 16), generator=generator, dtype=torch.uint8)
        image[2 * label + 4 : 2 * label + 8, 6:22] = bar
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    images_header, labels_header = struct.pack(">4I", 2051, count, 28, 28), struct.pack(">2I", 2049, count)
    (raw / f"{prefix}-images-idx3-ubyte").write_bytes(images_header + images.numpy().tobytes())
    (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(labels_header + labels.to(torch.uint8).numpy().tobytes())


def write_small_mnist(folder: Path) -> Path:
    """Both splits, in torchvision's layout."""
    write_split(folder, "train", TRAIN)
    write_split(folder, "t10k", TEST)
    return folder
