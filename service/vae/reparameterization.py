"""The reparameterized Gaussian latent z = μ + σ∘v, its gradients, and the noise v; for many requests at once.

Analytic formulas, no autograd; `docs/mathematics-vae.md` derives them. A job's result is the same to the bit alone
and in any batch: see `divergences` for how ragged jobs share one tensor computation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import starmap
from typing import Literal, NamedTuple, TypeAlias, cast, get_args

import numpy as np
import torch

from service.errors import InvalidInput
from service.vae.divergences import (
    Array,
    Device,
    Real,
    all_finite,
    as_array,
    excess,
    lay_out,
    only,
    pack,
    require,
    require_shape,
    require_vectors,
    run_batch,
    softplus_and_sigmoid,
    sum_rows,
    unpack,
)

Parametrization = Literal["sigma", "log_variance", "softplus", "scale_tril"]
PARAMETRIZATIONS: tuple[Parametrization, ...] = get_args(Parametrization)

# (parametrization, is a KL wanted, D where jobs are stacked by D)
_Key: TypeAlias = tuple[Parametrization, bool, int]

# Below this ρ, σ = softplus(ρ) and its slope are both e^ρ to the last bit of a double.
_SOFTPLUS_IS_EXP = -40.0


class ReparameterizationJob(NamedTuple):
    """One request: mu, noise v and grad_z = ∂L/∂z of one shape, (D,) or (B, D), and `scale` in a parametrization.

    `scale` is σ > 0, log σ² or ρ with σ = log(1 + e^ρ), of the same shape; or scale_tril, the lower triangular L with
    positive diagonal of z = μ + L v, (D, D) or (B, D, D). `kl_weight` β ≥ 0 asks for the KL to N(0, I).
    """

    mu: Real
    scale: Real
    parametrization: Parametrization
    noise: Real
    grad_z: Real
    kl_weight: float | None = None


class Reparameterization(NamedTuple):
    """z and the pathwise gradients of L, each of the shape of what it belongs to; the KL part where it was asked for.

    `kl` is KL(q‖N(0, I)) in nats, unweighted, () or (B,). `kl_grad_mu` and `kl_grad_scale` are β times its gradients,
    so that `grad_mu + kl_grad_mu` and `grad_scale + kl_grad_scale` are the gradients of L + β Σ_b KL_b.
    """

    z: Array
    grad_mu: Array
    grad_scale: Array
    kl: Array | None = None
    kl_grad_mu: Array | None = None
    kl_grad_scale: Array | None = None


def draw_noise(seed: int, shape: int | tuple[int, ...]) -> Array:
    """Standard normal float64 noise of `shape`, (D,) or (B, D), from a Philox generator of its own, keyed by `seed`.

    The stream is read in row-major order, so what comes first does not depend on how much follows: row b of a (B, D)
    draw is the same for every B > b, and (D,) is row 0. 0 ≤ seed < 2**64, or InvalidInput.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        allowed = "an integer, 0 ≤ seed < 2**64"
        raise InvalidInput(f"seed = {seed!r}: it must be {allowed}", pointer="/seed", allowed=allowed)
    return np.random.Generator(np.random.Philox(key=seed)).standard_normal(shape)


def reparameterize(job: ReparameterizationJob, *, device: Device = "cpu") -> Reparameterization:
    """z and the gradients of one job. Raises InvalidInput as `reparameterize_batch` answers it."""
    return only(reparameterize_batch([job], device=device))


def reparameterize_batch(
    jobs: Sequence[ReparameterizationJob], *, device: Device = "cpu"
) -> list[Reparameterization | InvalidInput]:
    """z = μ + σ∘v of each job with ∂L/∂μ = g and, for g = ∂L/∂z, the gradient in the scale as it was given.

    sigma: g∘v. log_variance: ½ g∘v∘σ. softplus: g∘v∘sigmoid(ρ). scale_tril: tril(g vᵀ). With `kl_weight` also
    KL = ½ Σ (σ² + μ² - 1 - log σ²), or ½ (tr LLᵀ + μᵀμ - D - 2 Σ log L_ii), with β times its own gradients.

    Jobs may differ in B, D and parametrization. A job's outcome is the same to the bit alone and in any batch; its
    arrays are views of the batch's. It is InvalidInput for shapes that do not fit, values that are not finite, σ ≤ 0,
    an L that is not lower triangular with a positive diagonal, and results that overflow; pointers are the fields'
    names (the scale's is its parametrization) with the index of the element.
    """
    return run_batch(jobs, _prepare, _compute, _diagnose, device)


def _prepare(job: ReparameterizationJob) -> tuple[_Key, ReparameterizationJob]:
    mu, scale, parametrization, noise, grad_z, weight = job
    mu, scale, noise, grad_z = as_array(mu), as_array(scale), as_array(noise), as_array(grad_z)
    if parametrization not in PARAMETRIZATIONS:
        detail = f"parametrization = {parametrization!r}: it must be one of {list(PARAMETRIZATIONS)}"
        raise InvalidInput(detail, pointer="/parametrization", allowed=list(PARAMETRIZATIONS))
    shape, stacked = mu.shape, parametrization == "scale_tril"
    require_vectors("mu", mu)
    require_shape("noise", noise, shape, "mu")
    require_shape("grad_z", grad_z, shape, "mu")
    require_shape(parametrization, scale, shape + shape[-1:] if stacked else shape, "mu")
    if weight is not None and not 0 <= weight < math.inf:
        allowed = "a finite number ≥ 0"
        raise InvalidInput(f"kl_weight = {weight}: it must be {allowed}", pointer="/kl_weight", allowed=allowed)
    prepared = ReparameterizationJob(mu, scale, parametrization, noise, grad_z, weight)
    return (parametrization, weight is not None, shape[-1] if stacked else 0), prepared


def _compute(
    key: _Key, jobs: list[ReparameterizationJob], device: torch.device
) -> tuple[list[Reparameterization], bool]:
    return _compute_tril(key, jobs, device) if key[0] == "scale_tril" else _compute_diagonal(key, jobs, device)


# Diagonal covariance


class _Sigma(NamedTuple):
    """σ as a function of the parameter θ, and of a KL what depends on it; all (total,)."""

    sigma: torch.Tensor
    slope: torch.Tensor | None  # dσ/dθ; none for 1
    square_less_1: torch.Tensor | None = None  # σ² - 1
    log_variance: torch.Tensor | None = None
    kl_slope: torch.Tensor | None = None  # (dσ/dθ)/σ, since dKL/dσ = (σ² - 1)/σ


def _sigma_of(theta: torch.Tensor, parametrization: Parametrization, with_kl: bool) -> _Sigma:
    if parametrization == "log_variance":
        sigma = torch.exp(0.5 * theta)
        kl = (torch.expm1(theta), theta, torch.full_like(theta, 0.5)) if with_kl else ()
        return _Sigma(sigma, 0.5 * sigma, *kl)
    if parametrization == "sigma":
        return _Sigma(theta, None, *(((theta - 1) * (theta + 1), 2 * theta.log(), 1 / theta) if with_kl else ()))
    sigma, sigmoid = softplus_and_sigmoid(theta)
    if not with_kl:
        return _Sigma(sigma, sigmoid)
    tiny = theta < _SOFTPLUS_IS_EXP  # where σ may underflow to 0, its logarithm and slope/σ do not
    log_variance = 2 * torch.where(tiny, theta, sigma.log())
    ratio = torch.where(tiny, torch.ones_like(theta), sigmoid / sigma)
    return _Sigma(sigma, sigmoid, (sigma - 1) * (sigma + 1), log_variance, ratio)


def _compute_diagonal(
    key: _Key, jobs: list[ReparameterizationJob], device: torch.device
) -> tuple[list[Reparameterization], bool]:
    parametrization, with_kl, _ = key
    columns = _columns(jobs)
    shapes = [array.shape for array in columns[0]]
    layout = lay_out([array.size for array in columns[0]])
    packed = pack(columns, layout)
    mu, theta, noise, grad_z = packed.to(device)
    scale = _sigma_of(theta, parametrization, with_kl)
    grad_scale = grad_z * noise
    if scale.slope is not None:
        grad_scale = grad_scale * scale.slope
    flat = [(mu + scale.sigma * noise).cpu().numpy(), packed[3].numpy(), grad_scale.cpu().numpy()]
    sound = all_finite(packed.numpy(), *flat) and (parametrization != "sigma" or bool((packed[1] > 0).all()))
    parts = [unpack(values, layout, shapes) for values in flat]
    if with_kl:
        kl = _standard_kl(jobs, mu, scale, layout, shapes)
        sound = sound and all_finite(np.concatenate(kl.divergences, axis=None), kl.grad_mu, kl.grad_scale)
        parts += [kl.divergences, unpack(kl.grad_mu, layout, shapes), unpack(kl.grad_scale, layout, shapes)]
    return list(starmap(Reparameterization, zip(*parts, strict=True))), sound


def _columns(jobs: list[ReparameterizationJob]) -> list[list[Array]]:
    """mu, scale, noise and grad_z, each of all jobs; `_prepare` made them ndarrays."""
    mus, scales, _, noises, grads, _ = zip(*jobs, strict=True)
    return cast("list[list[Array]]", [mus, scales, noises, grads])


class _StandardKL(NamedTuple):
    """KL to N(0, I) of each job's rows, and β times its gradients in μ and θ on the jobs' layout, (total,)."""

    divergences: list[Array]
    grad_mu: Array
    grad_scale: Array


def _standard_kl(
    jobs: list[ReparameterizationJob], mu: torch.Tensor, scale: _Sigma, layout: Layout, shapes: list[tuple[int, ...]]
) -> _StandardKL:
    """½ Σ (σ² - 1 - log σ² + μ²) over the last axis; gradients β μ and β (σ² - 1)/σ · dσ/dθ."""
    x, log_variance, slope = scale.square_less_1, scale.log_variance, scale.kl_slope
    assert x is not None  # noqa: S101 - 
    terms = 0.5 * (excess(x, log_variance) + mu * mu)
    return None
