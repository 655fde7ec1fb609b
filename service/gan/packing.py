"""The generator's weights in the order in which the processor reads them, and the tiles of each layer.

A transposed convolution with a kernel of 4x4 and stride 2 is four convolutions with kernels of 2x2, one for each parity
of the row and of the column of its output (sub-pixel convolution; Shi et al., "Is the deconvolution layer the same as a
convolutional layer?", 2016). Row 2m + p of the output reads the rows m + p - 1 and m + p of the input, and columns
likewise. Signals are stored row by row with their channels last.

Each output is a sum of parts. From the second layer on there are two, one for each column of the inputs. A part is one
chain over the lower row, then the upper row, and over the channels of each. The first layer, whose input is one pixel,
has eight parts of 16 inputs. Short chains round less than a long one. (This is also the order of oneDNN with AVX-512,
which torch uses.)
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .networks import LATENT_DIM, Generator
from .tiles import Tile

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

# Outputs of the first three layers: rows and columns, and channels.
SIZES, CHANNELS = (4, 8, 16), (64, 32, 16)
# Rows and columns as stored. Zeros around the first two outputs stand for the pixels outside an image.
SIDES = SIZES[0] + 2, SIZES[1] + 2, SIZES[2]

# Inputs of one part of the first layer, and outputs of one of its tiles.
BLOCK, FIRST_COLUMNS = 16, 64
# Pixels and channels of one tile of the second and the third layer. Its sums fit into the registers of AVX2 and NEON.
ROWS, COLUMNS = 4, 16
# The last layer has one channel. Its tiles compute products, 2 rows x 4 columns of the kernel at once. Two products are
# then added to one output. The rows of products lie between the rows of inputs, and zeros lie beside them.
LAST_ROWS, LAST_COLUMNS = 8, 8
EDGES = SIZES[2] + 1
EDGE = (SIZES[2] + 2) * LAST_COLUMNS

# Rows (and columns) of the kernel for outputs of parity p: TAPS[p][0] for the upper row of inputs, TAPS[p][1] for the
# lower one.
TAPS = ((3, 1), (2, 0))


class Packed(NamedTuple):
    """A generator for `drawing.draw`."""

    numbers: Float32
    """All weights and biases, flat."""
    first: Int64
    """The tiles (T, 7) of the first layer, then those of the others."""
    second: Int64
    third: Int64
    last: Int64
    bias: np.float32
    """Of the last layer."""


def pack(generator: Generator) -> Packed:
    """The weights of `generator`, on any device, and the tiles of its layers."""
    arrays = [tensor.detach().cpu().numpy() for tensor in generator.state_dict().values()]
    weights, biases = arrays[::2], arrays[1::2]
    parts = [
        _tiled(weights[0].transpose(0, 2, 3, 1).reshape(LATENT_DIM // BLOCK, BLOCK, -1), FIRST_COLUMNS),
        np.tile(biases[0], SIZES[0] ** 2),
        _tiled(_halves(weights[1]), COLUMNS),
        biases[1],
        _tiled(_halves(weights[2]), COLUMNS),
        biases[2],
        _last_halves(weights[3]),
    ]
    at = np.cumsum([0, *(part.size for part in parts)]).tolist()
    layers = _first_layer(at[0], at[1]), _layer(0, at[2], at[3]), _layer(1, at[4], at[5]), _last_layer(at[6])
    first, second, third, last = (np.array(list(tiles), np.int64) for tiles in layers)
    numbers = np.concatenate([part.ravel() for part in parts])
    return Packed(numbers, first, second, third, last, np.float32(biases[3].item()))


def _tiled(weights: Float32, columns: int) -> Float32:
    """Weights (parts, inputs, outputs) as (outputs / columns, parts, inputs, columns)."""
    parts, inputs, _ = weights.shape
    return weights.reshape(parts, inputs, -1, columns).transpose(2, 0, 1, 3)


def _halves(weights: Float32) -> Float32:
    """Weights (inputs, outputs, 4, 4) as (8 parts, 2 rows x inputs, outputs), the lower row first.

    The parts are those of `_layer`: for each parity of the row and of the column, the two columns of inputs.
    """
    inputs, outputs = weights.shape[:2]
    halves = [weights[:, :, TAPS[p][row], TAPS[q][half]] for p, q, half, row in product((0, 1), (0, 1), (0, 1), (1, 0))]
    return np.stack(halves).reshape(8, 2 * inputs, outputs)


def _last_halves(weights: Float32) -> Float32:
    """Weights (16, 1, 4, 4) of the last layer as (2 rows, 16, 2 x 4), the lower row first."""
    # The image's rows 2j - 1 and 2j, of parity 1 and 0, read the same rows of inputs.
    return np.stack([weights[:, 0, [TAPS[1][row], TAPS[0][row]]] for row in (1, 0)])


def _first_layer(weights: int, bias: int) -> Iterator[Tile]:
    parts = LATENT_DIM // BLOCK
    for output in range(0, SIZES[0] ** 2 * CHANNELS[0], FIRST_COLUMNS):
        pixel, channel = divmod(output, CHANNELS[0])
        row, column = divmod(pixel, SIZES[0])
        out = ((row + 1) * SIDES[0] + column + 1) * CHANNELS[0] + channel
        for part in range(parts):
            at = weights + output * LATENT_DIM + part * BLOCK * FIRST_COLUMNS
            yield Tile(out, part * BLOCK, at, bias + output, 1, int(part == 0), int(part == parts - 1))


def _layer(layer: int, weights: int, bias: int) -> Iterator[Tile]:
    """The tiles of the second layer (0) or the third (1)."""
    size, inputs, outputs = SIZES[layer], CHANNELS[layer], CHANNELS[layer + 1]
    side, out_side = SIDES[layer], SIDES[layer + 1]
    border = (out_side - 2 * size) // 2
    # One part's weights serve all pixels before the next part's, so that they stay in the nearest cache.
    for channel, p, q, half in product(range(0, outputs, COLUMNS), (0, 1), (0, 1), (0, 1)):
        part = channel // COLUMNS * 8 + p * 4 + q * 2 + half
        for m, n in product(range(size), range(0, size, ROWS)):
            row, runs = _rows(m + p, size)
            yield Tile(
                ((2 * m + p + border) * out_side + 2 * n + q + border) * outputs + channel,
                ((row + 1) * side + n + q + half) * inputs,
                weights + (2 * part + m + p - row) * inputs * COLUMNS,
                bias + channel,
                runs,
                1 - half,
                half,
            )


def _last_layer(weights: int) -> Iterator[Tile]:
    """Products [j, 1 + n, r, k] for the image's rows 2j - 1 + r: the inputs' column n times the kernel's column k."""
    size, channels = SIZES[2], CHANNELS[2]
    for j, n in product(range(EDGES), range(0, size, LAST_ROWS)):
        row, runs = _rows(j, size)
        yield Tile(
            j * EDGE + (n + 1) * LAST_COLUMNS,
            (row * size + n) * channels,
            weights + (j - row) * channels * LAST_COLUMNS,
            0,
            runs,
            1,
            0,
        )


def _rows(lower: int, size: int) -> tuple[int, int]:
    """Of the rows `lower` and `lower - 1` of an image, the first that lies inside it, and their number inside it."""
    return min(lower, size - 1), 2 if 0 < lower < size else 1
