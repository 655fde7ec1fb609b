"""MNIST as tensors: reading, resizing, and shuffling by (seed, epoch)."""

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
    """torchvision's MNIST, without the pickled cache of its earlier versions."""

    @property
    def raw_folder(self) -> str:
        # The base class derives the folder from the class's name.
        return str(Path(self.root) / "MNIST" / "raw")

    def _check_legacy_exist(self) -> bool:
        return False


def load(folder: Path, split: str = "train", *, download: bool = True) -> Digits:
    """Read the `train` or `test` split in `folder`. If it is missing and `download` is set, download it first.

    The layout is torchvision's: `folder/MNIST/raw/*-ubyte`. The idx headers give the number of images, so smaller data
    sets work too. Raises DataError, with the file and the cure, if a file is missing or damaged.
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
    """Resize images (N, 28, 28) uint8 to (N, 1, 32, 32) float32 in [-1, 1].

    The steps are x/255, bilinear interpolation with align_corners=False, and x*2 - 1.
    """
    scaled = images.unsqueeze(1).to(torch.float32) / 255
    resized = interpolate(scaled, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", align_corners=False)
    return resized.mul_(2).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Convert images in [-1, 1] to 8-bit grey levels, round((x + 1) · 127.5), in the same shape."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(images: Tensor) -> Tensor:
    """Convert 8-bit images to float32 in [-1, 1], x/127.5 - 1, in the same shape."""
    return images.to(torch.float32) / 127.5 - 1


def shuffle(count: int, seed: int, epoch: int) -> Tensor:
    """The order (count,) int64 of the images in one epoch: a permutation that `seed` and `epoch` alone determine."""
    # The generator uses 32 bits of its seed. With an odd multiplier, different seeds differ in every epoch.
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
    """Return the sizes in the header of an idx file. Raises DataError if the length of the file differs from them."""
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
        raise DataError(f"{file}: damaged, {found_bytes} bytes, expected {expected} from its header; {_cure(file)}")
    return sizes


def _cure(file: Path) -> str:
    return f"delete {file.name} and run again to download it, or replace it"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
