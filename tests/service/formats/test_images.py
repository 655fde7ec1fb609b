"""Pictures: exact round trips, layout, and refusal of what is none."""

from __future__ import annotations

import io
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, ImageSequence

from service.errors import InvalidInput
from service.formats.images import (
    MAX_BYTES,
    MAX_CHUNKS,
    animate,
    decode,
    encode,
    from_uint8,
    grid,
    shape_of_grid,
    to_uint8,
)

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


def test_levels_survive_the_way_through_floats() -> None:
    assert np.array_equal(to_uint8(from_uint8(LEVELS)), LEVELS)


def test_the_ends_of_the_range_are_black_and_white() -> None:
    assert to_uint8(np.array([-1, 0, 1], np.float32)).tolist() == [0, 128, 255]


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_encoding_is_lossless(kind: str) -> None:
    assert np.array_equal(decode(encode(LEVELS, kind), 256), LEVELS)


@pytest.mark.parametrize("kind", ["gif", "webp", "apng"])
def test_every_frame_of_an_animation_is_lossless_and_lasts_as_long_as_asked(kind: str) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 16, 12), np.uint8)
    animation = Image.open(io.BytesIO(animate(frames, kind, fps=12.5, scale=3)))
    found = [(np.asarray(frame.convert("L")), frame.info["duration"]) for frame in ImageSequence.Iterator(animation)]
    assert len(found) == 5
    for frame, (levels, duration) in zip(frames, found, strict=True):
        assert np.array_equal(levels, frame.repeat(3, 0).repeat(3, 1))
        assert duration == 80
    assert animation.info["loop"] == 0


@pytest.mark.parametrize(
    ("count", "columns", "shape"),
    [(1, None, (1, 1)), (2, None, (1, 2)), (3, None, (2, 2)), (64, None, (8, 8)), (10, 4, (3, 4)), (2, 100, (1, 2))],
)
def test_shape_of_a_grid(count: int, columns: int | None, shape: tuple[int, int]) -> None:
    assert shape_of_grid(count, columns) == shape


def test_image_i_of_a_grid_is_where_reading_order_puts_it() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6), np.uint8)
    sheet = grid(images, columns=2)
    assert sheet.shape == (3 * 4, 2 * 6)
    for index in range(6):
        row, column = divmod(index, 2)
        cell = sheet[row * 4 : row * 4 + 4, column * 6 : column * 6 + 6]
        assert np.array_equal(cell, images[index] if index < 5 else np.zeros((4, 6)))


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_a_scale_repeats_every_pixel(kind: str) -> None:
    found = decode(encode(LEVELS, kind, scale=3), 9 * 256)
    assert np.array_equal(found, LEVELS.repeat(3, 0).repeat(3, 1))


def test_every_truncation_and_many_corruptions_of_a_png_are_refused_or_read() -> None:
    whole = encode(LEVELS, "png")
    for length in range(len(whole) - 12):
        with pytest.raises(InvalidInput):
            decode(whole[:length], 256)
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= int(rng.integers(1, 256))
        with suppress(InvalidInput):
            assert decode(bytes(damaged), 256).dtype == np.uint8


def test_a_bomb_is_refused_by_its_header() -> None:
    header = b"IHDR" + (8000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    data = b"IDAT" + zlib.compress(bytes(1000))
    bomb += (len(data) - 4).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
    with pytest.raises(InvalidInput, match="8000 x 8000"):
        decode(bomb, 4096)


@pytest.mark.parametrize("kind", ["BMP", "JPEG", "TIFF"])
def test_other_formats_are_not_opened_and_named(kind: str) -> None:
    out = io.BytesIO()
    Image.fromarray(LEVELS).save(out, kind)
    with pytest.raises(InvalidInput, match=f"is a {kind}, which is not read"):
        decode(out.getvalue(), 4096)


@pytest.mark.parametrize(("kind", "name"), [("png", "PNG"), ("webp", "WebP")])
def test_a_damaged_picture_is_named_with_its_size(kind: str, name: str) -> None:
    half = encode(LEVELS, kind)[:40]
    with pytest.raises(InvalidInput, match=rf"the {name} is truncated or damaged \(40 bytes\)"):
        decode(half, 4096)
    with pytest.raises(InvalidInput, match="not a readable picture of 3 bytes"):
        decode(b"abc", 4096)


def test_sixteen_bits_and_transparency_are_read_for_what_they_show() -> None:
    deep, clear = io.BytesIO(), io.BytesIO()
    Image.fromarray(LEVELS.astype(np.uint16) * 257).save(deep, "PNG")
    assert np.array_equal(decode(deep.getvalue(), 256), LEVELS)
    shape_in_alpha = np.dstack([np.full((16, 16, 3), 255, np.uint8), LEVELS])
    Image.fromarray(shape_in_alpha).save(clear, "PNG")
    assert np.array_equal(decode(clear.getvalue(), 256), LEVELS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_png_of_any_kind_is_read_whole_and_refused_without_its_last_row(mode: str) -> None:
    out = io.BytesIO()
    Image.new(mode, (13, 9)).save(out, "PNG")
    whole = out.getvalue()
    assert decode(whole, 256).shape == (9, 13)
    start = whole.index(b"IDAT") - 4
    length = int.from_bytes(whole[start : start + 4], "big")
    rows = zlib.decompress(whole[start + 8 : start + 8 + length])
    short = b"IDAT" + zlib.compress(rows[: len(rows) * 8 // 9])
    chunk = (len(short) - 4).to_bytes(4, "big") + short + zlib.crc32(short).to_bytes(4, "big")
    with pytest.raises(InvalidInput, match="rows end early"):
        decode(whole[:start] + chunk + whole[start + 12 + length :], 256)


def test_dark_strokes_on_a_transparent_ground_are_refused_and_light_ones_are_read() -> None:
    strokes = np.zeros((32, 32), np.uint8)
    strokes[8:24, 14:18] = 255
    for light in (0, 255):
        pixels = np.full((32, 32, 4), light, np.uint8)
        pixels[..., 3] = strokes
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "PNG")
        if light:
            assert np.array_equal(decode(out.getvalue(), 1024), strokes)
        else:
            with pytest.raises(InvalidInput, match="transparent pixels count as black") as refusal:
                decode(out.getvalue(), 1024, "/images/0")
            assert refusal.value.allowed == "light strokes on black, or on a transparent ground"


def test_an_opaque_black_picture_is_one() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (32, 32), (0, 0, 0, 255)).save(out, "PNG")
    assert not decode(out.getvalue(), 1024).any()


def with_chunk(content: bytes, count: int = 1) -> bytes:
    """A PNG of LEVELS with `count` more chunks, of text."""
    picture = encode(LEVELS, "png")
    body = b"tEXta\0" + content
    chunk = (len(body) - 4).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)
    return picture[:33] + chunk * count + picture[33:]


def test_the_bytes_and_the_chunks_of_a_file_are_bounded() -> None:
    assert np.array_equal(decode(with_chunk(b"x", 1000), 256), LEVELS)
    assert np.array_equal(decode(with_chunk(b"x" * 1000), 256), LEVELS)
    with pytest.raises(InvalidInput, match="10003 chunks") as refusal:
        decode(with_chunk(b"x", 10_000), 256, "/images/3")
    assert (refusal.value.pointer, refusal.value.allowed) == ("/images/3", f"at most {MAX_CHUNKS} chunks")
    with pytest.raises(InvalidInput, match="bytes, which is too large") as refusal:
        decode(with_chunk(b"x" * MAX_BYTES), 256, "/images/3")
    assert refusal.value.allowed == f"at most {MAX_BYTES} bytes"
