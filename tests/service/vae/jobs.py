"""Random reparameterization jobs, and how their results are compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from service.errors import InvalidInput
from service.vae.inputs import Array
from service.vae.reparameterization import (
    Parametrization,
    Reparameterization,
    ReparameterizationJob,
)

DIAGONAL: tuple[Parametrization, ...] = ("sigma", "log_variance", "softplus")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
seeds = st.integers(0, 2**32 - 1)
shapes = st.one_of(st.tuples(st.integers(1, 9)), st.tuples(st.integers(1, 5), st.integers(1, 9)))
weights = st.one_of(st.just(0.0), st.floats(1e-3, 10))
number = st.one_of(st.floats(), st.floats(-3, 3), st.sampled_from([0.0, -0.0, 1e200, 1e308, -1e308, 5e-324, -2e3, 800]))


def random_job(
    rng: np.random.Generator,
    parametrization: Parametrization,
    shape: tuple[int, ...],
    kl_weight: float | None = None,
) -> ReparameterizationJob:
    mu, noise, grad_z, scale = (rng.standard_normal(shape) for _ in range(4))
    if parametrization == "sigma":
        scale = np.exp(scale)
    if parametrization == "scale_tril":
        diagonal = np.exp(scale)
        scale = np.tril(rng.standard_normal((*shape, shape[-1])), -1)
        scale[..., np.arange(shape[-1]), np.arange(shape[-1])] = diagonal
    return ReparameterizationJob(mu, scale, parametrization, noise, grad_z, kl_weight)


def arrays(result: Reparameterization | InvalidInput) -> list[Array]:
    assert isinstance(result, Reparameterization), result
    return [array for array in result if array is not None]


def content(result: Reparameterization | InvalidInput) -> list[tuple[tuple[int, ...], bytes]]:
    return [(array.shape, array.tobytes()) for array in arrays(result)]


def tensors(job: ReparameterizationJob) -> list[torch.Tensor]:
    return [torch.tensor(np.asarray(array), requires_grad=True) for array in (job.mu, job.scale)]


def sigma_by_torch(theta: torch.Tensor, parametrization: Parametrization) -> torch.Tensor:
    if parametrization == "log_variance":
        return torch.exp(0.5 * theta)
    return torch.logaddexp(theta, torch.zeros_like(theta)) if parametrization == "softplus" else theta


def assert_close(actual: Array, expected: torch.Tensor | Array) -> None:
    expected = np.asarray(expected.detach() if isinstance(expected, torch.Tensor) else expected)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12 * float(np.abs(expected).max()))
