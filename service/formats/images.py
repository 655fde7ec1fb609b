"""Conversion between uint8 arrays and pictures, grids and animations."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InvalidInput
from . import png

UINT8 = NDArray[np.uint8]

# Bytes of a picture's file, and chunks of a PNG. Pictures of digits have a few thousand bytes, and profiles of colours
# some hundred thousand. Pillow takes microseconds for each chunk, and copies its content several times.
MAX_BYTES, MAX_CHUNKS = 1 << 20, 1 << 10

GIF_SIGNATURES = (b"GIF87a", b"GIF89a")
WEBP_SIGNATURE = b"RIFF"
# First bytes of other pictures, for the error.
OTHER_SIGNATURES = {b"\xff\xd8\xff": "JPEG", b"BM": "BMP", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
# Samples a pixel for each colour type of a PNG: grey, colour, palette, grey and alpha, colour and alpha.
PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def to_uint8(images: NDArray[np.float32]) -> UINT8:
    """The grey levels, 0 to 255, of images in (-1, 1) of any shape: round((x + 1) * 127.5)."""
    levels: UINT8 = np.rint((images + np.float32(1)) * np.float32(127.5)).astype(np.uint8)
    return levels


def from_uint8(images: UINT8) -> NDArray[np.float32]:
    """The images in [-1, 1] of grey levels of any shape: x / 127.5 - 1; `to_uint8` inverts it exactly."""
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1)


def shape_of_grid(count: int, columns: int | None = None) -> tuple[int, int]:
    """Rows and columns for `count` images; without `columns`, the smallest square that holds them."""
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    return math.ceil(count / columns), columns


def grid(images: UINT8, columns: int | None = None) -> UINT8:
    """The images (n, H, W) in rows, without padding, as (rows * H, columns * W).

    `columns` images are in a row; None makes the smallest square. Places after the last image are black.
    """
    count, height, width = images.shape
    if count == 1:
        return images.reshape(height, width)
    rows, columns = shape_of_grid(count, columns)
    cells = np.zeros((rows * columns, height, width), np.uint8)
    cells[:count] = images
    return cells.reshape(rows, columns, height, width).swapaxes(1, 2).reshape(rows * height, columns * width)


def encode(sheet: UINT8, kind: str, text: Mapping[str, str] | None = None, scale: int = 1) -> bytes:
    """One (H, W) grey picture as "png" or "webp", both lossless.

    A PNG stores `text` in tEXt chunks. Every pixel is repeated `scale` times in both directions.
    """
    if kind == "png":
        return png.encode(sheet, text, scale)
    out = io.BytesIO()
    Image.fromarray(sheet.repeat(scale, 0).repeat(scale, 1)).save(out, "WEBP", lossless=True, quality=50)
    return out.getvalue()


def animate(frames: UINT8, kind: str, fps: float, scale: int = 1) -> bytes:
    """Grey frames (n, H, W) as an endless "gif", "webp" or "apng", all lossless.

    Args:
        fps: frames a second. A GIF counts time in hundredths of a second, the others in thousandths.
        scale: factor by which every pixel is repeated in both directions.
    """
    first, *others = (Image.fromarray(frame.repeat(scale, 0).repeat(scale, 1)) for frame in frames)
    out = io.BytesIO()
    settings: dict[str, Any] = {"save_all": True, "append_images": others, "loop": 0}
    if kind == "gif":
        # Each frame replaces the whole previous one, so that readers can show single frames.
        first.save(out, "GIF", duration=10 * max(2, round(100 / fps)), disposal=1, optimize=False, **settings)
    elif kind == "webp":
        first.save(out, "WEBP", duration=round(1000 / fps), lossless=True, quality=50, method=2, **settings)
    else:
        first.save(out, "PNG", duration=round(1000 / fps), **settings)
    return out.getvalue()


def decode(data: bytes | bytearray, max_pixels: int, pointer: str = "", allowed: object = None) -> UINT8:
    """A PNG or WebP picture as (H, W) 8-bit grey.

    Args:
        data: the file.
        max_pixels: maximum width times height.
        pointer: JSON pointer of the field, for errors.
        allowed: the accepted sizes, for errors; None names `max_pixels`.

    Raises:
        InvalidInput: the data is not a PNG or WebP picture, or has more than MAX_BYTES or MAX_CHUNKS; or the picture
            is damaged, animated, too large, or uniform once its transparent pixels are black.
    """
    if len(data) > MAX_BYTES:
        raise InvalidInput(
            f"the picture's file has {len(data)} bytes, which is too large",
            pointer=pointer,
            allowed=f"at most {MAX_BYTES} bytes",
        )
    if data.startswith(png.SIGNATURE) and len(chunks := _chunks(data)) > MAX_CHUNKS:
        raise InvalidInput(
            f"the PNG has {len(chunks)} chunks, which are too many",
            pointer=pointer,
            allowed=f"at most {MAX_CHUNKS} chunks",
        )
    if data.startswith(GIF_SIGNATURES):
        raise InvalidInput(
            "the picture is a GIF, which is not read; send each of its frames as a separate picture",
            pointer=pointer,
            allowed="PNG or WebP",
        )
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "WEBP")) as picture:
            if getattr(picture, "is_animated", False):
                raise InvalidInput(
                    f"the picture is an animation of {getattr(picture, 'n_frames', 'several')} frames; "
                    "send each of its frames as a separate picture",
                    pointer=pointer,
                    allowed="one frame",
                )
            if picture.width * picture.height > max_pixels:
                raise InvalidInput(
                    f"a picture of {picture.width} x {picture.height} pixels is too large",
                    pointer=pointer,
                    allowed=allowed or f"at most {max_pixels} pixels",
                )
            # Decoding alone accepts a truncated file; this call checks every checksum.
            picture.verify()
        if data.startswith(png.SIGNATURE) and not _has_all_rows(data):
            raise InvalidInput("the picture's rows end early", pointer=pointer, allowed="a whole PNG")
        with Image.open(io.BytesIO(data), formats=("PNG", "WEBP")) as picture:
            return _to_grey(picture, pointer)
    except InvalidInput:
        raise
    # Pillow's own limit applies first if the header claims some hundred million pixels.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InvalidInput(
            "the picture has too many pixels",
            pointer=pointer,
            allowed=allowed or f"at most {max_pixels} pixels",
        ) from None
    # Pillow raises OSError, SyntaxError, ValueError, struct.error and more for damaged files.
    except Exception as error:
        raise InvalidInput(_fault(data), pointer=pointer, allowed="PNG or WebP") from error


def _fault(data: bytes | bytearray) -> str:
    """Why `data` cannot be read."""
    for signature, kind in OTHER_SIGNATURES.items():
        if data.startswith(signature):
            return f"the picture is a {kind}, which is not read"
    for signature, kind in ((png.SIGNATURE, "PNG"), (WEBP_SIGNATURE, "WebP")):
        if data.startswith(signature):
            return f"the {kind} is truncated or damaged ({len(data)} bytes)"
    return f"not a readable picture of {len(data)} bytes"


def _to_grey(picture: Image.Image, pointer: str) -> UINT8:
    if picture.mode.startswith("I"):  # 16 bits a pixel, which Pillow's own conversion would clip at 255
        return (np.asarray(picture, np.uint32) // 257).astype(np.uint8)
    if picture.has_transparency_data:  # the background is black, as in MNIST
        drawn = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), drawn)
        if _is_flat(picture.convert("L")) and not _is_flat(drawn.getchannel("A")):
            raise InvalidInput(
                "transparent pixels count as black, so this black drawing on a transparent ground is all black; send "
                "light strokes",
                pointer=pointer,
                allowed="light strokes on black, or on a transparent ground",
            )
    return np.asarray(picture.convert("L"))


def _is_flat(channel: Image.Image) -> bool:
    low, high = channel.getextrema()
    return low == high


def _chunks(data: bytes | bytearray) -> list[tuple[bytes, int, int]]:
    """The chunks of a PNG: their kinds, and where their contents begin and stop."""
    found, at = [], len(png.SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, at + 8, at + 8 + length))
        at += length + 12
    return found


def _has_all_rows(data: bytes | bytearray) -> bool:
    """Whether the pixel data of a PNG with valid chunks is as long as its header declares.

    Pillow fills missing rows with black and raises no error. (PNG specification, 11.2.2 and 11.2.4. The rows of an
    interlaced picture are slightly longer in total, so for them this is a lower bound.)
    """
    width, height, depth, colour = struct.unpack_from(">IIBB", data, len(png.SIGNATURE) + 8)
    parts = [data[start:stop] for kind, start, stop in _chunks(data) if kind == b"IDAT"]
    expected: int = height * (1 + math.ceil(width * depth * PNG_SAMPLES[colour] / 8))
    return len(zlib.decompressobj().decompress(b"".join(parts), expected)) == expected
