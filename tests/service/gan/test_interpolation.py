"""Laws of paths between latents: through the keys, at even angles, with lengths between theirs."""

from __future__ import annotations

import numpy as np
import pytest

from service.gan import sampling
from service.gan.interpolation import path


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_the_keys_are_returned_bit_for_bit(frames: int, loop: bool) -> None:
    keys = sampling.latents(3, 4)
    way = path(keys, frames, loop=loop)
    assert len(way) == (4 * frames if loop else 3 * frames + 1)
    assert np.array_equal(way[::frames][:4], keys)
    assert way.dtype == np.float32


def test_angles_are_even_and_in_the_plane_of_the_keys() -> None:
    keys = sampling.latents(3, 2)
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    way = path(keys, 8, loop=False).astype(np.float64)
    assert np.linalg.norm(way, axis=1) == pytest.approx(np.ones(9), abs=1e-6)
    angles = np.arccos((way[1:] * way[:-1]).sum(1))
    assert angles == pytest.approx(np.full(8, np.arccos(float(keys[0] @ keys[1])) / 8), abs=1e-4)
    assert np.linalg.matrix_rank(way, tol=1e-5) == 2


def test_the_reversed_path_is_the_path_of_the_reversed_keys() -> None:
    keys = sampling.latents(3, 2)
    there, back = path(keys, 6, loop=False), path(keys[::-1], 6, loop=False)
    assert there == pytest.approx(back[::-1], abs=1e-5)


@pytest.mark.parametrize("factor", [0.0, 2.0, -1.0])
def test_parallel_keys_are_joined_by_a_line(factor: float) -> None:
    key = sampling.latents(3, 1)
    way = path(np.concatenate([key, key * np.float32(factor)]), 4, loop=False)
    assert np.isfinite(way).all()
    assert way[2] == pytest.approx(key[0] * (1 + factor) / 2, abs=1e-5)
