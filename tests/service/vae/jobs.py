"""Random reparameterization jobs, and their counterparts in torch."""

from __future__ import annotations

import numpy as np
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
weights = st.one_of(st.just(0.0), st.floats(1e-3, 10))


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


def tensors(job: ReparameterizationJob) -> list[torch.Tensor]:
    return [torch.tensor(np.asarray(array), requires_grad=True) for array in (job.mu, job.scale)]


def sigma_by_torch(theta: torch.Tensor, parametrization: Parametrization) -> torch.Tensor:
    if parametrization == "log_variance":
        return torch.exp(0.5 * theta)
    return torch.logaddexp(theta, torch.zeros_like(theta)) if parametrization == "softplus" else theta
