"""Random problems of the divergences, and how their results are compared."""

from __future__ import annotations

from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.vae.gaussian_kl import (
    GaussianDivergence,
    GaussianPair,
    GaussianScale,
)
from service.vae.inputs import Array
from service.vae.logistic import LabelledPoint, LogisticDivergence

KINDS = list(product(get_args(GaussianScale), repeat=2))
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
seeds = st.integers(0, 2**32 - 1)
shapes = st.one_of(st.tuples(st.integers(1, 9)), st.tuples(st.integers(1, 5), st.integers(1, 9)))
kinds = st.sampled_from(KINDS)
number = st.one_of(st.floats(), st.floats(-3, 3), st.sampled_from([0.0, -0.0, 1e200, 1e308, -1e308, 5e-324, -2e3, 800]))
vector = st.lists(number, min_size=2, max_size=2).map(lambda values: np.array(values))


def random_pair(
    rng: np.random.Generator, kinds: tuple[GaussianScale, GaussianScale], shape: tuple[int, ...]
) -> GaussianPair:
    mu_q, scale_q, mu_p, scale_p = (rng.standard_normal(shape) for _ in range(4))
    scale_q, scale_p = (np.exp(s) if k == "sigma" else s for s, k in zip((scale_q, scale_p), kinds, strict=True))
    return GaussianPair(mu_q, scale_q, mu_p, scale_p, *kinds)


def random_point(rng: np.random.Generator, shape: tuple[int, ...], *, shared: bool = False) -> LabelledPoint:
    w = rng.standard_normal(shape[-1:] if shared else shape)
    return LabelledPoint(rng.standard_normal(shape), w, rng.integers(0, 2, shape[:-1]).astype(np.float64))


def content(result: GaussianDivergence | LogisticDivergence | InvalidInput) -> list[tuple[tuple[int, ...], bytes]]:
    assert not isinstance(result, InvalidInput), result
    return [(array.shape, array.tobytes()) for array in result]


def assert_close(actual: Array, expected: torch.Tensor | Array) -> None:
    expected = np.asarray(expected.detach() if isinstance(expected, torch.Tensor) else expected)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12 * float(np.abs(expected).max()))


def entry(value: float, index: tuple[int, int] = (1, 0)) -> Array:
    array = np.ones((3, 2))
    array[index] = value
    return array
