"""Seeded standard normal noise."""

from __future__ import annotations

import math

import numpy as np

from ..errors import InvalidInput
from . import parts
from .inputs import Array


def draw_noise(seed: int, shape: int | tuple[int, ...]) -> Array:
    """Standard normal float64 noise of `shape`, (D,) or (B, D), from a Philox generator keyed by `seed`.

    The stream fills the array row by row: row b of a (B, D) array is the same for every B > b, and (D,) is row 0.

    Raises:
        InvalidInput: `seed` is not an integer with 0 ≤ seed < 2**64.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        allowed = "an integer, 0 ≤ seed < 2**64"
        raise InvalidInput(f"seed = {seed!r}: it must be {allowed}", pointer="/seed", allowed=allowed)
    generator = np.random.Generator(np.random.Philox(key=seed))
    if (shape if isinstance(shape, int) else math.prod(shape)) <= parts.PART_ELEMENTS:
        return generator.standard_normal(shape)
    noise = np.empty(shape)
    flat = noise.reshape(-1)
    for part in parts.spans(flat.size):
        generator.standard_normal(out=flat[part])
    return noise
