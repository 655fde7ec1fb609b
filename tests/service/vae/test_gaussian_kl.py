"""The KL of two diagonal Gaussians: closed forms, autograd, and errors that name the value at fault."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.vae.gaussian_kl import (
    GaussianDivergence,
    GaussianPair,
    GaussianScale,
    gaussian_kl,
    gaussian_kl_batch,
    to_standard_normal,
)
from service.vae.inputs import Array
from service.vae.reparameterization import (
    ReparameterizationJob,
    reparameterize,
)
from tests.service.vae.comparison import assert_close, seeds, shapes
from tests.service.vae.problems import entry, kinds, random_pair, vector


@settings(deadline=None)
@given(seed=seeds, shape=shapes, kinds=kinds)
def test_the_kl_agrees_with_torch_distributions_and_its_gradients_with_autograd(
    seed: int, shape: tuple[int, ...], kinds: tuple[GaussianScale, GaussianScale]
) -> None:
    pair = random_pair(np.random.default_rng(seed), kinds, shape)
    leaves = [torch.tensor(np.asarray(array), requires_grad=True) for array in pair[:4]]
    sigmas = [s if kind == "sigma" else torch.exp(s / 2) for s, kind in zip(leaves[1::2], kinds, strict=True)]
    q, p = (torch.distributions.Normal(mu, sigma) for mu, sigma in zip(leaves[::2], sigmas, strict=True))
    expected = torch.distributions.kl_divergence(q, p).sum(-1)
    result = gaussian_kl(pair)
    assert_close(result.divergence, expected)
    for actual, gradient in zip(result[1:], torch.autograd.grad(expected.sum(), leaves), strict=True):
        assert_close(actual, gradient)


@settings(deadline=None, max_examples=200)
@given(seed=seeds, kinds=kinds, size=st.floats(-17, 2))
def test_the_kl_is_never_negative_even_if_the_two_are_close(
    seed: int, kinds: tuple[GaussianScale, GaussianScale], size: float
) -> None:
    rng = np.random.default_rng(seed)
    pair = random_pair(rng, (kinds[0], kinds[0]), (50, 1))
    nudge = 10**size * rng.standard_normal((2, 50, 1))
    scale = np.asarray(pair.scale_q)
    scale = scale * np.exp(nudge[1]) if kinds[0] == "sigma" else scale + nudge[1]
    if kinds[0] != kinds[1]:
        scale = np.exp(scale / 2) if kinds[1] == "sigma" else 2 * np.log(scale)
    result = gaussian_kl_batch([pair._replace(mu_p=pair.mu_q + nudge[0], scale_p=scale, parametrization_p=kinds[1])])
    if isinstance(result[0], GaussianDivergence):
        assert (result[0].divergence >= 0).all()
    else:
        assert size > 1  # only σ's that are far apart overflow


@settings(deadline=None)
@given(seed=seeds, kind=st.sampled_from(get_args(GaussianScale)), shape=shapes)
def test_the_kl_is_0_with_zero_gradients_if_the_two_are_equal(
    seed: int, kind: GaussianScale, shape: tuple[int, ...]
) -> None:
    pair = random_pair(np.random.default_rng(seed), (kind, kind), shape)
    same = gaussian_kl(pair._replace(mu_p=pair.mu_q, scale_p=pair.scale_q))
    assert all((array == 0).all() for array in same)


@settings(deadline=None)
@given(seed=seeds, kinds=kinds, field=st.sampled_from(["mu_q", "scale_q", "mu_p", "scale_p"]))
def test_the_kl_is_positive_if_one_parameter_differs_by_one_ulp(
    seed: int, kinds: tuple[GaussianScale, GaussianScale], field: str
) -> None:
    pair = random_pair(np.random.default_rng(seed), (kinds[0], kinds[0]), (1,))
    pair = pair._replace(mu_p=pair.mu_q, scale_p=pair.scale_q)
    moved = pair._replace(**{field: np.nextafter(getattr(pair, field), np.inf)})
    assert gaussian_kl(moved).divergence > 0


@settings(deadline=None)
@given(sigma=st.floats(1e-3, 1e3), ulps=st.integers(1, 1000))
def test_the_kl_keeps_its_relative_accuracy_near_equality(sigma: float, ulps: int) -> None:
    other = sigma + ulps * float(np.spacing(sigma))
    zero = np.zeros(1)
    result = gaussian_kl(GaussianPair(zero, np.array([other]), zero, np.array([sigma])))
    with localcontext() as context:
        context.prec = 60
        ratio = (Decimal(other) / Decimal(sigma)) ** 2
        exact = (ratio - 1 - ratio.ln()) / 2
        slope = (ratio - 1) / Decimal(other)
    assert abs(Decimal(float(result.divergence)) / exact - 1) < Decimal("1e-14")
    assert abs(Decimal(float(result.grad_scale_q[0])) / slope - 1) < Decimal("1e-14")


def test_the_kl_agrees_with_a_monte_carlo_estimate() -> None:
    rng, n = np.random.default_rng(0), 200_000
    pair = random_pair(rng, ("sigma", "log_variance"), (4,))
    mu_q, sigma_q, mu_p, log_variance_p = map(np.asarray, pair[:4])
    z = mu_q + sigma_q * rng.standard_normal((n, 4))
    log_q = -np.log(sigma_q) - 0.5 * ((z - mu_q) / sigma_q) ** 2
    log_p = -0.5 * log_variance_p - 0.5 * (z - mu_p) ** 2 / np.exp(log_variance_p)
    sample = (log_q - log_p).sum(-1)
    assert abs(gaussian_kl(pair).divergence - sample.mean()) < 5 * sample.std() / np.sqrt(n)


@settings(deadline=None)
@given(seed=seeds, shape=shapes, kind=st.sampled_from(get_args(GaussianScale)))
def test_the_kl_to_the_standard_normal_is_the_special_case_that_reparameterization_adds(
    seed: int, shape: tuple[int, ...], kind: GaussianScale
) -> None:
    pair = random_pair(np.random.default_rng(seed), (kind, kind), shape)
    general = gaussian_kl(to_standard_normal(pair.mu_q, pair.scale_q, kind))
    zero = np.zeros(shape)
    special = reparameterize(ReparameterizationJob(pair.mu_q, pair.scale_q, kind, zero, zero, 1.0))
    for ours, theirs in zip(special[3:], general[:3], strict=True):
        assert ours is not None
        assert_close(ours, theirs)


@settings(deadline=None)
@given(seed=seeds, shape=shapes, kinds=kinds)
def test_the_kl_does_not_change_under_a_common_shift_and_scale(
    seed: int, shape: tuple[int, ...], kinds: tuple[GaussianScale, GaussianScale]
) -> None:
    pair = random_pair(np.random.default_rng(seed), kinds, shape)
    moved = [8 * np.asarray(mu) + 16 for mu in (pair.mu_q, pair.mu_p)]
    scales = [
        8 * np.asarray(s) if kind == "sigma" else np.asarray(s) + np.log(64)
        for s, kind in zip((pair.scale_q, pair.scale_p), kinds, strict=True)
    ]
    result = gaussian_kl(GaussianPair(moved[0], scales[0], moved[1], scales[1], *kinds))
    np.testing.assert_allclose(result.divergence, gaussian_kl(pair).divergence, rtol=1e-10)


def test_equal_gaussians_have_zero_divergence_even_if_sigma_underflows() -> None:
    mu, log_variance = np.array([1e300, 0.0]), np.array([-2000.0, 2000.0])
    result = gaussian_kl(GaussianPair(mu, log_variance, mu, log_variance, "log_variance", "log_variance"))
    assert all((array == 0).all() for array in result)


@settings(deadline=None, max_examples=200)
@given(arrays=st.tuples(vector, vector, vector, vector), kinds=kinds)
def test_for_all_numbers_the_kl_is_finite_or_an_error_names_an_element(
    arrays: tuple[Array, Array, Array, Array], kinds: tuple[GaussianScale, GaussianScale]
) -> None:
    (outcome,) = gaussian_kl_batch([GaussianPair(*arrays, *kinds)])
    if isinstance(outcome, InvalidInput):
        _, side, field, index = outcome.pointer.split("/")
        assert field in ("mu", kinds["qp".index(side)])
        assert index in ("0", "1")
    else:
        assert all(np.isfinite(array).all() for array in outcome)
        assert outcome.divergence >= 0


def pair_with(**changes: Any) -> GaussianPair:
    ones = np.ones((3, 2))
    return GaussianPair(ones, ones, ones, ones)._replace(**changes)


@pytest.mark.parametrize(
    ("pair", "pointer"),
    [
        (pair_with(scale_q=entry(0.0)), "/q/sigma/1/0"),
        (pair_with(scale_p=entry(-1.0)), "/p/sigma/1/0"),
        (pair_with(mu_q=entry(np.nan)), "/q/mu/1/0"),
        (pair_with(mu_p=entry(np.inf)), "/p/mu/1/0"),
        (pair_with(scale_p=entry(np.nan), parametrization_p="log_variance"), "/p/log_variance/1/0"),
        (pair_with(scale_q=entry(1e200)), "/q/sigma/1/0"),
        (pair_with(scale_p=entry(1e-200)), "/p/sigma/1/0"),
        (pair_with(scale_p=entry(1e-310)), "/p/sigma/1/0"),
        (pair_with(scale_q=entry(1e-310)), "/q/sigma/1/0"),
        (pair_with(scale_q=entry(1e10), scale_p=entry(1e-160)), "/p/sigma/1/0"),
        (pair_with(scale_q=entry(1e160), scale_p=entry(1e-10)), "/q/sigma/1/0"),
        (pair_with(scale_p=entry(-2000.0), parametrization_p="log_variance"), "/p/log_variance/1/0"),
        (pair_with(mu_p=entry(1e200)), "/p/mu/1/0"),
        (pair_with(mu_q=entry(1e308), mu_p=entry(-1e307)), "/q/mu/1/0"),
        (pair_with(mu_q=entry(1e20), scale_p=entry(1e-150)), "/p/sigma/1/0"),
        (pair_with(mu_q=entry(1e150), scale_p=entry(1e-20)), "/q/mu/1/0"),
        (pair_with(scale_q=entry(1e-300), mu_p=entry(1e200)), "/p/mu/1/0"),
        (
            pair_with(scale_q=entry(-1e308), scale_p=entry(1.7e308))._replace(
                parametrization_q="log_variance", parametrization_p="log_variance"
            ),
            "/p/log_variance/1/0",
        ),
        (
            GaussianPair(np.array([1e150, 1.2e154, 1.3e154, 1.25e154]), np.ones(4), np.ones(4), np.ones(4)),
            "/q/mu/2",
        ),  # only the sum overflows
        (pair_with(scale_q=entry(2000.0), parametrization_q="log_variance"), "/q/log_variance/1/0"),
        (pair_with(mu_q=entry(1e200)), "/q/mu/1/0"),
        (pair_with(mu_q=entry(0.0), scale_p=entry(1e-200), scale_q=entry(1e-200)), "/p/sigma/1/0"),
        (pair_with(mu_q=np.ones(())), "/q/mu"),
        (pair_with(mu_q=np.ones((3, 0))), "/q/mu"),
        (pair_with(scale_q=np.ones(2)), "/q/sigma"),
        (pair_with(mu_p=np.ones((3, 3))), "/p/mu"),
        (pair_with(scale_p=np.ones((2, 3)), parametrization_p="log_variance"), "/p/log_variance"),
        (pair_with(parametrization_q="softplus"), "/q"),
    ],
)
def test_an_invalid_pair_is_refused_and_the_error_names_the_value(pair: GaussianPair, pointer: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        gaussian_kl(pair)
    assert caught.value.pointer == pointer
    assert caught.value.allowed is not None
