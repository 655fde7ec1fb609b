"""The PNG writer: Pillow reads what was written, pixel by pixel and text by text."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from service.formats.png import SMALL_PIXELS, encode

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)
SHAPES = [(1, 1), (1, 300), (300, 1), (32, 32), (64, 64), (64, 65), (33, 500)]


def opened(data: bytes) -> Image.Image:
    """The picture of `data`, after Pillow has checked the checksum of every chunk."""
    Image.open(io.BytesIO(data)).verify()
    return Image.open(io.BytesIO(data))


def pictures(shape: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Noise, which does not compress; strokes, which do; and one level."""
    rng = np.random.default_rng(0)
    strokes = np.where(rng.random(shape) < 0.1, rng.integers(0, 256, shape), 0)
    return [rng.integers(0, 256, shape, np.uint8), strokes.astype(np.uint8), np.full(shape, 255, np.uint8)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1, 2, 3, 8])
def test_the_pixels_are_those_of_the_sheet(shape: tuple[int, int], scale: int) -> None:
    for sheet in pictures(shape):
        picture = opened(encode(sheet, scale=scale))
        assert (picture.format, picture.mode) == ("PNG", "L")
        assert np.array_equal(np.asarray(picture), sheet.repeat(scale, 0).repeat(scale, 1))


def test_a_sheet_may_be_a_view() -> None:
    sheet = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
    for view in (sheet[::2, 5:], sheet.T, sheet[::-1]):
        assert np.array_equal(np.asarray(opened(encode(view))), view)


def test_texts_are_those_that_pillow_would_write() -> None:
    text = {"seed": "7", "Software": "Latentserve 1", "empty": "", "sign": "±½"}
    chunks = PngImagePlugin.PngInfo()
    for name, value in text.items():
        chunks.add_text(name, value)
    out = io.BytesIO()
    Image.fromarray(LEVELS).save(out, "PNG", pnginfo=chunks)
    picture = opened(encode(LEVELS, text))
    assert list(picture.info.items()) == list(opened(out.getvalue()).info.items()) == list(text.items())
    assert np.array_equal(np.asarray(picture), LEVELS)
    assert encode(LEVELS, {}) == encode(LEVELS)


def test_pictures_of_strokes_compress() -> None:
    for shape in ((32, 32), (256, 256)):
        _, strokes, plain = pictures(shape)
        assert len(encode(strokes)) < 0.6 * strokes.size
        assert len(encode(plain)) < 0.2 * plain.size


def test_a_repeated_row_costs_little() -> None:
    side = int(SMALL_PIXELS**0.5) * 4
    noise = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
    assert len(encode(noise, scale=8)) < 4 * len(encode(noise))
