"""Paths between latents. They follow great circles, because the lengths of latents hardly differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .packing import Float32


def path(keys: Float32, frames: int, *, loop: bool) -> Float32:
    """Latents on the path through `keys` (k, 128), k ≥ 2. Each leg has `frames` latents and starts with its first key.

    The legs are spherical linear interpolations (Shoemake, "Animating Rotation with Quaternion Curves", 1985) by the
    angle between two keys, and the lengths change gradually. The keys are returned unchanged, to the bit.

    Args:
        keys: latents to visit, in order.
        frames: latents per leg.
        loop: add a leg from the last key to the first. Otherwise the last key is one more latent.

    Returns:
        (k · frames, 128) with `loop`, else ((k - 1) · frames + 1, 128).
    """
    ends = np.concatenate([keys[1:], keys[:1]]) if loop else keys[1:]
    rows = [_leg(start, end, frames) for start, end in zip(keys, ends, strict=False)]
    return np.concatenate(rows if loop else [*rows, keys[-1:]])


def _leg(start: Float32, end: Float32, frames: int) -> Float32:
    a, b = start.astype(np.float64), end.astype(np.float64)
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    angle = float(np.arccos(np.clip(a @ b / lengths, -1, 1))) if lengths > 0 else 0.0
    steps: NDArray[np.float64] = np.arange(frames)[:, None] / frames
    if np.sin(angle) < 1e-6:  # equal or opposite directions have no unique great circle
        rows = (1 - steps) * a + steps * b
    else:
        rows = (np.sin((1 - steps) * angle) * a + np.sin(steps * angle) * b) / np.sin(angle)
    rows[0] = a
    return rows.astype(np.float32)
