"""MNIST as tensors: read once, resized once, shuffled by (seed, epoch)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.datasets import MNIST

from service.errors import LatentserveError
from service.gan.networks import IMAGE_SIZE

SIDE = 28
IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
PREFIXES = {"train": "train", "test": "t10k"}


class DataError(LatentserveError):
    """The data set is missing, damaged, or too small."""


class Digits(NamedTuple):
    """One split of MNIST: `images` (N, 28, 28) uint8, white on black, and `labels` (N,) int64 in 0..9."""

    images: Tensor
    labels: Tensor
    sha256: str
    """Digest of the images' idx file."""


class _RawMnist(MNIST):  # type: ignore[misc]  # torchvision has no types
    """torchvision's MNIST without its pickled cache of earlier versions."""

    @property
    def raw_folder(self) -> str:
        # The base class derives the folder from the class's name.
        return str(Path(self.root) / "MNIST" / "raw")

    def _check_legacy_exist(self) -> bool:
        return False


def load(folder: Path, split: str = "train", *, download: bool = True) -> Digits:
    """The `train` or `test` split under `folder`, downloaded there when it is missing and `download` allows it.

    The layout is torchvision's: `folder/MNIST/raw/*-ubyte`. Counts are those of the idx headers, so that smaller sets
    work too. Raises DataError, naming the file and the cure, when files are missing and cannot be had, or damaged.
    """
    raw = folder / "MNIST" / "raw"
    images_file = raw / f"{PREFIXES[split]}-images-idx3-ubyte"
    labels_file = raw / f"{PREFIXES[split]}-labels-idx1-ubyte"
    if not download and (absent := [str(file) for file in (images_file, labels_file) if not file.is_file()]):
        raise DataError(f"MNIST is missing: {', '.join(absent)}; put it there, or leave out --no-download")
    if images_file.is_file() and labels_file.is_file():
        _check_files(images_file, labels_file)
    try:
        data = _RawMnist(str(folder), train=split == "train", download=download)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"MNIST is not complete in {raw} and could not be downloaded ({_one_line(error)}); "
            "connect to the network, or put its four *-ubyte files there"
        ) from error
    _check_files(images_file, labels_file)
    if int(data.targets.max()) > 9:
        raise DataError(f"{labels_file}: label {int(data.targets.max())} is not a digit; {_cure(labels_file)}")
    return Digits(data.data, data.targets, hashlib.sha256(images_file.read_bytes()).hexdigest())


def resize(images: Tensor) -> Tensor:
    """Images (N, 28, 28) uint8 as (N, 1, 32, 32) float32 in [-1, 1].

    x/255, bilinear interpolation with align_corners=False, then x*2 - 1.
    """
    scaled = images.unsqueeze(1).to(torch.float32) / 255
    resized = interpolate(scaled, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", align_corners=False)
    return resized.mul_(2).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as 8-bit grey: round((x + 1) · 127.5), of the same shape."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(images: Tensor) -> Tensor:
    """8-bit images back in [-1, 1]: x/127.5 - 1, float32, of the same shape."""
    return images.to(torch.float32) / 127.5 - 1


def shuffle(count: int, seed: int, epoch: int) -> Tensor:
    """The order (count,) int64 of one epoch: a permutation that depends on `seed` and `epoch` alone."""
    # The generator uses 32 bits of its seed. An odd multiplier keeps the seeds of one epoch apart.
    generator = torch.Generator().manual_seed((seed * 0x9E3779B1 + epoch) % 2**32)
    return torch.randperm(count, generator=generator)


def _check_files(images_file: Path, labels_file: Path) -> None:
    images, rows, columns = _check_idx(images_file, IMAGES_MAGIC, 3)
    if (rows, columns) != (SIDE, SIDE):
        raise DataError(f"{images_file}: images are {rows}x{columns}, expected {SIDE}x{SIDE}; {_cure(images_file)}")
    (labels,) = _check_idx(labels_file, LABELS_MAGIC, 1)
    if labels != images:
        raise DataError(f"{labels_file}: {labels} labels for {images} images; {_cure(labels_file)}")
    if images == 0:
        raise DataError(f"{images_file}: holds no images; {_cure(images_file)}")


def _check_idx(file: Path, magic: int, dimensions: int) -> tuple[int, ...]:
    """The sizes that an idx file's header names, after checking that its length agrees with them."""
    length = 4 * (dimensions + 1)
    with file.open("rb") as opened:
        header = opened.read(length)
    words = [int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header), 4)]
    if len(header) < length or words[0] != magic:
        found = words[0] if words else "an empty file"
        raise DataError(f"{file}: not an idx file of the expected kind (magic {found}, not {magic}); {_cure(file)}")
    sizes = tuple(words[1:])
    expected = length + torch.Size(sizes).numel()
    if (found_bytes := file.stat().st_size) != expected:
        raise DataError(f"{file}: damaged, {found_bytes} bytes where its header says {expected}; {_cure(file)}")
    return sizes


def _cure(file: Path) -> str:
    return f"delete {file.name} and run again to download it, or copy it anew"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
