"""The generator's forward pass on the processor, as compiled loops: latents to grey levels.

Each image is computed by itself, by the same instructions in the same order. Its bytes therefore cannot depend on the
other images of a batch, nor on their number.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..formats.images import UINT8
from ..jit import compiler
from .networks import IMAGE_SIZE, LATENT_DIM, Generator
from .packing import (
    BLOCK,
    CHANNELS,
    COLUMNS,
    EDGE,
    EDGES,
    FIRST_COLUMNS,
    LAST_COLUMNS,
    LAST_ROWS,
    ROWS,
    SIDES,
    SIZES,
    Float32,
    Int64,
    Packed,
    pack,
)
from .tiles import tiles_of

# ETags depend on this number. Increase it with every change that may alter a level of an image.
REVISION = 2

# Images whose first layer is computed together, so that the processor reads its weights once for all of them.
GROUP = 16

# Numbers of one image in the outputs of the first layer, and distances between the rows of a layer's inputs.
_FIRST_SIZE = SIDES[0] ** 2 * CHANNELS[0]
_ROW_1, _ROW_2, _ROW_3 = (side * channels for side, channels in zip(SIDES, CHANNELS, strict=True))
_CHANNELS_1, _CHANNELS_2, _CHANNELS_3 = CHANNELS
_PIXELS = IMAGE_SIZE**2

# tanh x = x P(x²) / Q(x²), and ±1 beyond the limit in float32: the rational approximation of Eigen (`ptanh_float`).
_LIMIT = np.float32(7.90531110763549805)
_P = [4.89352455891786e-03, 6.37261928875436e-04, 1.48572235717979e-05, 5.12229709037114e-08]
_P += [-8.60467152213735e-11, 2.00018790482477e-13, -2.76076847742355e-16]
_Q = [4.89352518554385e-03, 2.26843463243900e-03, 1.18534705686654e-04, 1.19825839466702e-06]
_P0, _P1, _P2, _P3, _P4, _P5, _P6 = map(np.float32, _P)
_Q0, _Q1, _Q2, _Q3 = map(np.float32, _Q)
# Adding and subtracting it rounds a number below 2**22 to an integer, ties to even.
_ROUNDING = np.float32(1.5 * 2**23)
_ONE, _HALF_RANGE = np.float32(1), np.float32(127.5)

_compile = compiler(Path(__file__).parent)
_first_tiles = tiles_of(1, FIRST_COLUMNS)
_tiles = tiles_of(ROWS, COLUMNS)
_last_tiles = tiles_of(LAST_ROWS, LAST_COLUMNS)


def warm_up() -> None:
    """Draw an image with random weights, which compiles the loops or loads them from the cache."""
    draw(pack(Generator()), np.zeros((1, LATENT_DIM), np.float32))


def draw(packed: Packed, latents: Float32) -> UINT8:
    """Images G(z) (B, 32, 32), in 8-bit grey levels, of `latents` (B, 128). Other threads run meanwhile."""
    count = len(latents)
    images = np.empty((count, IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    signals = [
        np.zeros(size, np.float32)
        for size in (
            _FIRST_SIZE * min(count, GROUP),
            SIDES[1] ** 2 * CHANNELS[1],
            SIDES[2] ** 2 * CHANNELS[2],
            EDGES * EDGE,
            _PIXELS,
        )
    ]
    _draw(np.ascontiguousarray(latents, np.float32).reshape(-1), images.reshape(-1), *packed, *signals)
    return images


@_compile(cache=True)
def _draw(
    latents: Float32,
    images: UINT8,
    numbers: Float32,
    first: Int64,
    second: Int64,
    third: Int64,
    last: Int64,
    bias: np.float32,
    outputs_1: Float32,
    outputs_2: Float32,
    outputs_3: Float32,
    products: Float32,
    pixels: Float32,
) -> None:
    """Write the levels of `latents` to `images`, both flat. The last five arrays are working memory, with zeros."""
    count = latents.size // LATENT_DIM
    for start in range(0, count, GROUP):
        group = min(GROUP, count - start)
        for tile in range(first.shape[0]):
            for image in range(group):
                _first_tiles(
                    first, tile, tile + 1, outputs_1, image * _FIRST_SIZE, 0,
                    latents, (start + image) * LATENT_DIM, 0, 0, BLOCK, numbers,
                )  # fmt: skip
        for image in range(group):
            _tiles(
                second, 0, second.shape[0], outputs_2, 0, 2 * _CHANNELS_2,
                outputs_1, image * _FIRST_SIZE, _CHANNELS_1, -_ROW_1, _CHANNELS_1, numbers,
            )  # fmt: skip
            _tiles(
                third, 0, third.shape[0], outputs_3, 0, 2 * _CHANNELS_3,
                outputs_2, 0, _CHANNELS_2, -_ROW_2, _CHANNELS_2, numbers,
            )  # fmt: skip
            _last_tiles(
                last, 0, last.shape[0], products, 0, LAST_COLUMNS,
                outputs_3, 0, _CHANNELS_3, -_ROW_3, _CHANNELS_3, numbers,
            )  # fmt: skip
            _add_products(products, pixels)
            _write_levels(pixels, bias, images, (start + image) * _PIXELS)


@_compile(forceinline=True)
def _add_products(products: Float32, pixels: Float32) -> None:
    """Write each pixel, the sum of two products.

    The image's column 2n needs the inputs n - 1 and n, and its column 2n + 1 needs n and n + 1.
    """
    for row in range(IMAGE_SIZE):
        edge = (row + 1) // 2 * EDGE + (row + 1) % 2 * 4
        for n in range(SIZES[2]):
            at = edge + n * LAST_COLUMNS
            pixel = row * IMAGE_SIZE + 2 * n
            pixels[pixel] = products[at + 3] + products[at + LAST_COLUMNS + 1]
            pixels[pixel + 1] = products[at + LAST_COLUMNS + 2] + products[at + 2 * LAST_COLUMNS]


@_compile(forceinline=True)
def _write_levels(pixels: Float32, bias: np.float32, images: UINT8, at: int) -> None:
    """round((tanh(x + bias) + 1) * 127.5) for each of `pixels`."""
    for pixel in range(_PIXELS):
        x = min(max(pixels[pixel] + bias, -_LIMIT), _LIMIT)
        s = x * x
        p = ((((((_P6 * s + _P5) * s + _P4) * s + _P3) * s + _P2) * s + _P1) * s + _P0) * x
        q = ((_Q3 * s + _Q2) * s + _Q1) * s + _Q0
        level = (p / q + _ONE) * _HALF_RANGE
        images[at + pixel] = np.uint8(np.int32((level + _ROUNDING) - _ROUNDING))
