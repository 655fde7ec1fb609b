"""Encoding of drawn images as one picture or one array."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from ..formats.images import UINT8, grid
from ..formats.images import encode as encode_picture


class Encoding(NamedTuple):
    """The form of images: "png" and "webp" show all in one picture, "npy" has the levels (n, 32, 32) of each."""

    format: Literal["png", "webp", "npy"]
    columns: int | None = None
    """Of the picture's grid; None makes the smallest square."""
    scale: int = 1
    """Factor by which every pixel of the picture is repeated in both directions."""


def encode(images: UINT8, encoding: Encoding, text: Mapping[str, str] | None = None) -> bytes:
    """The bytes of `images` (n, 32, 32); a PNG stores `text`."""
    if encoding.format == "npy":
        return _npy_header(images.shape) + images.tobytes()
    return encode_picture(grid(images, encoding.columns), encoding.format, text, encoding.scale)


@lru_cache(64)
def _npy_header(shape: tuple[int, ...]) -> bytes:
    """The beginning of a .npy file of bytes of this shape."""
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return out.getvalue()
