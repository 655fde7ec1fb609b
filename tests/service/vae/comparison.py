"""Random inputs, devices and comparisons for all tests of the mathematics."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.vae.inputs import Array

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
seeds = st.integers(0, 2**32 - 1)
shapes = st.one_of(st.tuples(st.integers(1, 9)), st.tuples(st.integers(1, 5), st.integers(1, 9)))
number = st.one_of(st.floats(), st.floats(-3, 3), st.sampled_from([0.0, -0.0, 1e200, 1e308, -1e308, 5e-324, -2e3, 800]))


def content(result: Iterable[Array | None] | InvalidInput) -> list[tuple[tuple[int, ...], bytes]]:
    """Shape and bytes of each array of `result`, for comparisons to the bit."""
    assert not isinstance(result, InvalidInput), result
    return [(array.shape, array.tobytes()) for array in result if array is not None]


def assert_close(actual: Array, expected: torch.Tensor | Array) -> None:
    expected = np.asarray(expected.detach() if isinstance(expected, torch.Tensor) else expected)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12 * float(np.abs(expected).max()))
