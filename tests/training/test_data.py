"""Laws of the data: resizing, shuffling, and errors for missing or damaged files."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from torch.nn.functional import interpolate

from training import data
from training.data import DataError


def raw(folder: Path, name: str) -> Path:
    return folder / "MNIST" / "raw" / name


def test_images_are_scaled_to_0_1_then_resized_bilinearly_then_scaled_to_minus_1_1() -> None:
    images = torch.randint(0, 256, (50, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = interpolate(images[:, None].float() / 255, size=32, mode="bilinear", align_corners=False) * 2 - 1
    assert torch.equal(data.resize(images), expected)


def test_black_and_white_map_exactly_to_minus_1_and_1() -> None:
    images = torch.stack([torch.full((28, 28), value, dtype=torch.uint8) for value in range(256)])
    resized = data.resize(images)
    assert resized.shape == (256, 1, 32, 32)
    # 28 / 32 makes every weight of the interpolation a multiple of 1/16, so constants are exact on every processor.
    assert resized[0].eq(-1).all()
    assert resized[255].eq(1).all()
    assert resized.abs().max() <= 1


def test_a_constant_image_stays_constant_up_to_the_border() -> None:
    resized = data.resize(torch.full((1, 28, 28), 100, dtype=torch.uint8))
    torch.testing.assert_close(resized, torch.full((1, 1, 32, 32), 100 / 127.5 - 1))


def test_each_epoch_has_its_own_permutation_which_depends_on_seed_and_epoch_alone() -> None:
    orders = {}
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        torch.manual_seed(epoch + 7)
        orders[seed, epoch] = data.shuffle(100, seed, epoch)
        assert torch.equal(orders[seed, epoch].sort().values, torch.arange(100))
        torch.manual_seed(99)
        assert torch.equal(data.shuffle(100, seed, epoch), orders[seed, epoch])
    assert len({tuple(order.tolist()) for order in orders.values()}) == 3


def test_the_header_gives_the_number_of_images(digits_folder: Path) -> None:
    assert data.load(digits_folder, "train", download=False).images.shape == (160, 28, 28)
    assert data.load(digits_folder, "test", download=False).labels.shape == (96,)


def test_a_missing_file_is_named_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.*--no-download"):
        data.load(tmp_path, download=False)


def test_a_failed_download_gives_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("Error downloading:\nno route to host")

    monkeypatch.setattr(data._RawMnist, "download", fail)
    with pytest.raises(DataError, match=r"Error downloading: no route to host.*network") as caught:
        data.load(tmp_path)
    assert "\n" not in caught.value.detail


def test_a_truncated_file_is_refused_with_both_lengths(digits_folder: Path) -> None:
    file = raw(digits_folder, "train-images-idx3-ubyte")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{file}: damaged, 125455 bytes, expected 125456 from its header; delete"):
        data.load(digits_folder)


@pytest.mark.parametrize("content", [b"", b"\0\0", struct.pack(">4I", 2052, 1, 28, 28) + bytes(784)])
def test_a_file_of_another_kind_is_refused(digits_folder: Path, content: bytes) -> None:
    raw(digits_folder, "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: not an idx file .* delete"):
        data.load(digits_folder)


def test_images_of_another_shape_are_refused(digits_folder: Path) -> None:
    raw(digits_folder, "train-images-idx3-ubyte").write_bytes(struct.pack(">4I", 2051, 160, 27, 28) + bytes(160 * 756))
    with pytest.raises(DataError, match="images are 27x28, expected 28x28"):
        data.load(digits_folder)


def test_another_number_of_labels_than_images_is_refused(digits_folder: Path) -> None:
    raw(digits_folder, "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 3) + bytes(3))
    with pytest.raises(DataError, match="3 labels for 160 images"):
        data.load(digits_folder)


def test_a_label_above_9_is_refused(digits_folder: Path) -> None:
    raw(digits_folder, "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 160) + bytes([10] * 160))
    with pytest.raises(DataError, match="label 10 is not a digit"):
        data.load(digits_folder)


def test_a_pickled_cache_is_not_read(digits_folder: Path) -> None:
    processed = digits_folder / "MNIST" / "processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        (processed / name).write_bytes(b"not to be opened")
    assert len(data.load(digits_folder, download=False).images) == 160


@pytest.mark.real_data
def test_all_of_mnist_is_read(real_data: Path) -> None:
    train, test = (data.load(real_data, split, download=False) for split in ("train", "test"))
    assert (train.images.shape, test.images.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert torch.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.sha256 == "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
