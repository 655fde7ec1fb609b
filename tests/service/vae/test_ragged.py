"""Ragged batches: the layout of jobs of unequal size in one buffer."""

from __future__ import annotations

import math

import numpy as np

from service.vae.ragged import lay_out, pack, spread_rows, sum_rows, unpack


def test_packing_and_unpacking_is_the_identity_and_pads_with_ones() -> None:
    rng = np.random.default_rng(0)
    sizes = [(2,), (64,), (3, 5), (1, 127), (128,)]
    arrays = [rng.standard_normal(shape) for shape in sizes]
    layout = lay_out([array.size for array in arrays])
    assert all(start % 64 == 0 for start in (*layout.starts, layout.total))
    (packed,) = pack([arrays], layout).numpy()
    for part, array in zip(unpack(packed, layout, sizes), arrays, strict=True):
        np.testing.assert_array_equal(part, array)
    outside = np.ones(layout.total, dtype=bool)
    for start, stop in zip(layout.starts, layout.stops, strict=True):
        outside[start:stop] = False
    assert (packed[outside] == 1).all()


def test_row_sums_are_accurate_and_spreading_is_their_transpose() -> None:
    rng = np.random.default_rng(0)
    sizes = [(2,), (64,), (3, 5), (1, 127), (128,), (7, 1), (2, 1001)]
    arrays = [rng.standard_normal(shape) for shape in sizes]
    layout = lay_out([array.size for array in arrays])
    sums = sum_rows(pack([arrays], layout)[0].numpy(), layout, sizes)
    for total, array in zip(sums, arrays, strict=True):
        exact = [math.fsum(row) for row in array.reshape(-1, array.shape[-1])]
        assert total.shape == array.shape[:-1]
        np.testing.assert_allclose(total.reshape(-1), exact, rtol=1e-14, atol=1e-14)
    spread = unpack(spread_rows(sums, layout, sizes), layout, sizes)
    for part, total, shape in zip(spread, sums, sizes, strict=True):
        np.testing.assert_array_equal(part, np.broadcast_to(total[..., None], shape))
