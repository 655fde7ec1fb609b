"""Laws of the pictures."""

from __future__ import annotations

import io

import torch
from PIL import Image

from training import data
from training.runs import figures


def test_conversion_to_8_bits_gives_the_nearest_level_and_inverts_the_scaling() -> None:
    levels = torch.arange(256, dtype=torch.float32)
    assert torch.equal(data.to_uint8(levels / 127.5 - 1), levels.to(torch.uint8))
    assert torch.equal(data.to_uint8(levels / 255 * 2 - 1), levels.to(torch.uint8))
    assert data.to_uint8(torch.tensor([-1.0, 1.0])).tolist() == [0, 255]
    assert torch.equal(data.to_uint8(data.from_uint8(levels.to(torch.uint8))), levels.to(torch.uint8))


def test_a_grid_has_all_images_row_by_row() -> None:
    images = torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1).expand(5, 1, 4, 3) + 1
    picture = figures.grid(images, columns=2, padding=1)
    assert picture.shape == (3 * 5 + 1, 2 * 4 + 1)
    for index in range(5):
        row, column = divmod(index, 2)
        assert picture[row * 5 + 1 : row * 5 + 5, column * 4 + 1 : column * 4 + 4].eq(index + 1).all()
    assert picture.sum() == 12 * (1 + 2 + 3 + 4 + 5)


def test_a_png_is_8_bit_grey_and_lossless() -> None:
    picture = torch.randint(0, 256, (17, 23), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    image = Image.open(io.BytesIO(figures.encode_png(picture)))
    assert (image.format, image.mode, image.size) == ("PNG", "L", (23, 17))
    assert image.tobytes() == picture.numpy().tobytes()
