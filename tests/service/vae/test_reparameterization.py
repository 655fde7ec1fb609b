"""z = μ + σ∘v and its gradients: closed forms and agreement with autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from service.vae.inputs import Array
from service.vae.noise import draw_noise
from service.vae.reparameterization import (
    PARAMETRIZATIONS,
    Parametrization,
    ReparameterizationJob,
    reparameterize,
)
from tests.service.vae.comparison import assert_close, content, seeds, shapes
from tests.service.vae.jobs import DIAGONAL, arrays, random_job, sigma_by_torch, tensors, weights


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@settings(deadline=None, max_examples=40)
@given(seed=seeds, shape=shapes)
def test_z_and_the_pathwise_gradients_agree_with_autograd(
    parametrization: Parametrization, seed: int, shape: tuple[int, ...]
) -> None:
    job = random_job(np.random.default_rng(seed), parametrization, shape)
    mu, theta = tensors(job)
    noise, grad_z = torch.tensor(job.noise), torch.tensor(job.grad_z)
    if parametrization == "scale_tril":
        z = mu + (torch.tril(theta) @ noise[..., None])[..., 0]
    else:
        z = mu + sigma_by_torch(theta, parametrization) * noise
    expected = torch.autograd.grad(z, (mu, theta), grad_z)
    result = reparameterize(job)
    assert_close(result.z, z)
    np.testing.assert_array_equal(result.grad_mu, job.grad_z)
    assert_close(result.grad_mu, expected[0])
    assert_close(result.grad_scale, expected[1])


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
@settings(deadline=None, max_examples=40)
@given(seed=seeds, shape=shapes, weight=weights)
def test_the_kl_part_agrees_with_torch_distributions_and_autograd(
    parametrization: Parametrization, seed: int, shape: tuple[int, ...], weight: float
) -> None:
    job = random_job(np.random.default_rng(seed), parametrization, shape, weight)
    mu, theta = tensors(job)
    q: torch.distributions.Distribution
    p: torch.distributions.Distribution
    if parametrization == "scale_tril":
        q = torch.distributions.MultivariateNormal(mu, scale_tril=torch.tril(theta))
        p = torch.distributions.MultivariateNormal(torch.zeros_like(mu), torch.eye(shape[-1], dtype=torch.float64))
    else:
        normal = torch.distributions.Normal
        q = torch.distributions.Independent(normal(mu, sigma_by_torch(theta, parametrization)), 1)
        p = torch.distributions.Independent(normal(torch.zeros_like(mu), torch.ones_like(mu)), 1)
    kl = torch.distributions.kl_divergence(q, p)
    expected = torch.autograd.grad(weight * kl.sum(), (mu, theta))
    result = reparameterize(job)
    assert result.kl is not None
    assert result.kl_grad_mu is not None
    assert result.kl_grad_scale is not None
    assert_close(result.kl, kl)
    assert_close(result.kl_grad_mu, expected[0])
    assert_close(result.kl_grad_scale, expected[1])


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_without_a_kl_weight_there_is_no_kl_part_and_with_one_the_rest_stays_the_same(
    parametrization: Parametrization,
) -> None:
    job = random_job(np.random.default_rng(0), parametrization, (3, 2))
    assert reparameterize(job)[3:] == (None, None, None)
    assert content(reparameterize(job)) == content(reparameterize(job._replace(kl_weight=0.5)))[:3]


@settings(deadline=None)
@given(seed=seeds, shape=shapes, weight=weights)
def test_the_parametrizations_agree_when_they_describe_the_same_sigma(
    seed: int, shape: tuple[int, ...], weight: float
) -> None:
    job = random_job(np.random.default_rng(seed), "sigma", shape, weight)
    sigma = np.asarray(job.scale)
    # θ, and dσ/dθ by which the gradients differ.
    others: dict[Parametrization, tuple[Array, Array]] = {
        "log_variance": (2 * np.log(sigma), sigma / 2),
        "softplus": (sigma + np.log(-np.expm1(-sigma)), -np.expm1(-sigma)),
    }
    expected = reparameterize(job)
    for parametrization, (theta, slope) in others.items():
        actual = reparameterize(job._replace(scale=theta, parametrization=parametrization))
        factors: list[float | Array] = [1, 1, slope, 1, 1, slope]
        for i, factor in enumerate(factors):
            assert_close(arrays(actual)[i], arrays(expected)[i] * factor)
    tril = reparameterize(job._replace(scale=sigma[..., None] * np.eye(shape[-1]), parametrization="scale_tril"))
    for i in (0, 1, 3, 4):
        assert_close(arrays(tril)[i], arrays(expected)[i])
    for i in (2, 5):
        assert_close(np.diagonal(arrays(tril)[i], axis1=-2, axis2=-1), arrays(expected)[i])


@pytest.mark.parametrize("parametrization", DIAGONAL)
def test_samples_have_mean_mu_variances_sigma_squared_and_covariance_0(parametrization: Parametrization) -> None:
    n, mu, sigma = 200_000, np.array([1.0, -2.0, 30.0]), np.array([0.1, 1.0, 7.0])
    theta = {"sigma": sigma, "log_variance": 2 * np.log(sigma), "softplus": np.log(np.expm1(sigma))}[parametrization]
    assert_moments(parametrization, n, mu, theta, np.diag(sigma**2))


def test_samples_of_scale_tril_have_covariance_l_lt() -> None:
    factor = np.array([[2.0, 0.0, 0.0], [-1.0, 0.5, 0.0], [3.0, 1.0, 0.1]])
    assert_moments("scale_tril", 200_000, np.array([1.0, 2.0, -3.0]), factor, factor @ factor.T)


def assert_moments(parametrization: Parametrization, n: int, mu: Array, theta: Array, covariance: Array) -> None:
    """Mean and covariance of n samples within five standard errors: √(C_ii/n) and √((C_ii C_jj + C_ij²)/n)."""
    tiled = np.broadcast_to(theta, (n, *theta.shape))
    means = np.broadcast_to(mu, (n, 3))
    z = reparameterize(ReparameterizationJob(means, tiled, parametrization, draw_noise(7, (n, 3)), means)).z
    variances = np.diag(covariance)
    assert (np.abs(z.mean(0) - mu) < 5 * np.sqrt(variances / n)).all()
    errors = np.sqrt((np.outer(variances, variances) + covariance**2) / n)
    assert (np.abs((z - mu).T @ (z - mu) / n - covariance) < 5 * errors).all()


@pytest.mark.parametrize(
    ("parametrization", "theta"),
    [("sigma", 1.0), ("log_variance", 0.0), ("softplus", np.log(np.expm1(1.0))), ("scale_tril", np.eye(2))],
)
def test_the_kl_of_the_standard_normal_is_0_and_so_are_its_gradients(
    parametrization: Parametrization, theta: float | Array
) -> None:
    zero = np.zeros(2)
    scale = np.eye(2) if parametrization == "scale_tril" else np.full(2, theta)
    result = reparameterize(ReparameterizationJob(zero, scale, parametrization, zero, zero, 1.0))
    exact = 0 if parametrization != "softplus" else 1e-15  # log(e - 1) is not a double
    assert all(np.abs(array).max() <= exact for array in arrays(result)[3:])


def test_the_kl_is_positive_and_exact_one_ulp_away_from_the_standard_normal() -> None:
    sigma = np.nextafter(1.0, 2.0)
    result = reparameterize(
        ReparameterizationJob(np.zeros(1), np.array([sigma]), "sigma", np.zeros(1), np.zeros(1), 1.0)
    )
    # KL(1 + ε) = ε² + O(ε³), and its slope is 2ε.
    epsilon = sigma - 1
    assert_close(arrays(result)[3], np.asarray(epsilon**2))
    assert_close(arrays(result)[5], np.asarray([2 * epsilon]))


def test_far_tails_stay_finite_where_sigma_underflows() -> None:
    mu, one = np.array([3.0]), np.ones(1)
    for parametrization, theta in (("log_variance", -2000.0), ("softplus", -1000.0)):
        result = reparameterize(
            ReparameterizationJob(mu, np.array([theta]), parametrization, one, one, 1.0)  # type: ignore[arg-type]
        )
        assert result.z == mu
        assert result.grad_scale == 0
        assert result.kl == 0.5 * (9 - 1 + 2000)
        # dKL/dθ → -dlog σ/dθ: -1/2 for the log variance, -1 for softplus.
        assert result.kl_grad_scale == (-0.5 if parametrization == "log_variance" else -1)


def test_softplus_is_accurate_beyond_the_threshold_where_the_usual_one_becomes_linear() -> None:
    rho, one, zero = np.array([20.5, 30.0]), np.ones(2), np.zeros(2)
    z = reparameterize(ReparameterizationJob(zero, rho, "softplus", one, one)).z
    np.testing.assert_allclose(z - rho, np.exp(-rho), atol=np.spacing(30.0))
