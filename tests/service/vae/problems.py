"""Random problems of the divergences."""

from __future__ import annotations

from itertools import product
from typing import get_args

import numpy as np
from hypothesis import strategies as st

from service.vae.gaussian_kl import (
    GaussianPair,
    GaussianScale,
)
from service.vae.inputs import Array
from service.vae.logistic import LabelledPoint
from tests.service.vae.comparison import number

KINDS = list(product(get_args(GaussianScale), repeat=2))
kinds = st.sampled_from(KINDS)
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


def entry(value: float, index: tuple[int, int] = (1, 0)) -> Array:
    array = np.ones((3, 2))
    array[index] = value
    return array
