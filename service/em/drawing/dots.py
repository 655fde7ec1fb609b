"""Antialiased dots: drawn without antialiasing on a larger sheet, from far to near, and then averaged down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...formats.arrays import Float64

Colour = tuple[int, int, int]

SHADES = 16
# The share of paper in the colour of the farthest dots.
FADE = 0.55
PAPER: Colour = (255, 255, 255)
# Dots drawn at a time, which bounds memory.
CHUNK = 4096


class Dots(NamedTuple):
    """Dots of one colour and size. Lengths are in pixels."""

    centres: Float64  # (N, 2) from the upper left corner
    depths: Float64  # (N,) from 0, far, to 1, near
    radius: float
    colour: Colour
    hole: float = 0.0  # inner radius of a ring, which is transparent inside
    edge: float = 0.0  # width of the rim of paper that separates neighbouring dots


def paint(layers: Sequence[Dots], side: int, samples: int = 4) -> Image.Image:
    """A square RGB picture of the dots, `side` pixels wide.

    Near dots cover far ones. At equal depth the dots of later layers cover those of earlier ones. Each pixel is the
    mean of `samples` × `samples` pixels of the sheet.
    """
    palette = [PAPER]
    large = side * samples
    reach = math.ceil(max(layer.radius + layer.edge for layer in layers) * samples) + 1
    sheet = np.zeros((large + 2 * reach, large + 2 * reach), np.uint8)
    steps = np.arange(-reach, reach + 1)
    offsets = (steps[:, None] * sheet.shape[1] + steps).ravel()

    # For each layer the pixels of the stamp that a dot covers, and those of them that are coloured.
    covers, inks, places, colours, depths, kinds = [], [], [], [], [], []
    for kind, layer in enumerate(layers):
        distance = np.hypot(steps[:, None], steps).ravel() / samples
        covers.append((distance <= layer.radius + layer.edge) & (distance >= layer.hole - layer.edge))
        inks.append((distance <= layer.radius) & (distance >= layer.hole))
        # Dots outside the picture are omitted. Dots on its rim fit into the sheet's border.
        corner = np.rint(layer.centres * samples - 0.5)
        inside = ((corner >= -1) & (corner <= large)).all(1)
        corner = corner[inside].astype(np.int64) + reach
        places.append(corner[:, 1] * sheet.shape[1] + corner[:, 0])
        shade = np.rint((1 - layer.depths[inside]) * (SHADES - 1)).astype(np.uint8)
        colours.append(shade + np.uint8(len(palette)))
        palette += _shades(layer.colour)
        depths.append(layer.depths[inside])
        kinds.append(np.full(len(shade), kind))
    order = np.argsort(np.concatenate(depths), kind="stable")
    place, colour, kind_of = (np.concatenate(values)[order] for values in (places, colours, kinds))
    cover, ink = np.array(covers), np.array(inks)

    flat = sheet.reshape(-1)
    for start in range(0, len(order), CHUNK):
        part = slice(start, start + CHUNK)
        covered = cover[kind_of[part]]
        where = (place[part, None] + offsets)[covered]
        # Of repeated indices NumPy keeps the last value, so near dots cover far ones.
        flat[where] = (ink[kind_of[part]] * colour[part, None])[covered]
    picture = Image.fromarray(np.ascontiguousarray(sheet[reach:-reach, reach:-reach]), "P")
    picture.putpalette(np.array(palette, np.uint8).tobytes())
    return picture.convert("RGB").reduce(samples)


def _shades(colour: Colour) -> list[Colour]:
    """SHADES shades, from the colour itself to its most faded one."""
    fades = np.linspace(0, FADE, SHADES)[:, None]
    mixed: NDArray[np.int64] = np.rint((1 - fades) * colour + fades * PAPER).astype(np.int64)
    return [(r, g, b) for r, g, b in mixed.tolist()]
