"""The reparameterized Gaussian latent z = μ + σ∘v with its gradients, in ragged batches.

`docs/mathematics/reparameterization.md` derives the formulas, and `ragged` makes results independent of the batch.
Gradients are analytic, without autograd.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate, starmap
from typing import Literal, NamedTuple, TypeAlias, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InvalidInput
from . import triangular
from .elementary import excess, softplus_and_sigmoid
from .inputs import Array, Real, all_finite, as_array, require, require_shape, require_vectors
from .overflow import LARGER, SMALLER, Factor, Part, Product, accuse, log_abs
from .ragged import Device, Layout, elementwise, lay_out, only, pack, run_batch, spread, sum_rows, unpack

Parametrization = Literal["sigma", "log_variance", "softplus", "scale_tril"]
PARAMETRIZATIONS: tuple[Parametrization, ...] = get_args(Parametrization)

# (parametrization, whether the KL is requested, D if jobs are stacked by D, else 0)
_Key: TypeAlias = tuple[Parametrization, bool, int]

# Below this ρ, σ = softplus(ρ) and its slope are both e^ρ to the last bit of a double.
_SOFTPLUS_IS_EXP = -40.0


class ReparameterizationJob(NamedTuple):
    """One request: mu, noise v and grad_z = ∂L/∂z of one shape, (D,) or (B, D), and `scale` in a parametrization.

    `scale` is σ > 0, log σ², or ρ with σ = log(1 + e^ρ), of the same shape. With scale_tril it is the lower triangular
    L in z = μ + L v, with a positive diagonal, (D, D) or (B, D, D). A `kl_weight` β ≥ 0 adds the KL to N(0, I).
    """

    mu: Real
    scale: Real
    parametrization: Parametrization
    noise: Real
    grad_z: Real
    kl_weight: float | None = None


class Reparameterization(NamedTuple):
    """z, and the pathwise gradients of L, each of its argument's shape. The KL part is None unless it was requested.

    `kl` is KL(q‖N(0, I)) in nats, unweighted, () or (B,). `kl_grad_mu` and `kl_grad_scale` are β times its gradients,
    so that `grad_mu + kl_grad_mu` and `grad_scale + kl_grad_scale` are the gradients of L + β Σ_b KL_b.
    """

    z: Array
    grad_mu: Array
    grad_scale: Array
    kl: Array | None = None
    kl_grad_mu: Array | None = None
    kl_grad_scale: Array | None = None


def reparameterize(job: ReparameterizationJob, *, device: Device = "cpu") -> Reparameterization:
    """z and the gradients of one job; see `reparameterize_batch`.

    Raises:
        InvalidInput: the outcome of the job is this error.
    """
    return only(reparameterize_batch([job], device=device))


def reparameterize_batch(
    jobs: Sequence[ReparameterizationJob], *, device: Device = "cpu"
) -> list[Reparameterization | InvalidInput]:
    """z = μ + σ∘v of each job, and the gradients of L in μ and in the scale.

    With g = ∂L/∂z, the gradient in μ is g. The gradient in the scale depends on the parametrization: g∘v for sigma,
    ½ g∘v∘σ for log_variance, g∘v∘sigmoid(ρ) for softplus, tril(g vᵀ) for scale_tril. With a `kl_weight` β the result
    also has KL = ½ Σ (σ² + μ² - 1 - log σ²), or ½ (tr LLᵀ + μᵀμ - D - 2 Σ log L_ii), and β times its gradients.

    Jobs may differ in B, D and parametrization. The arrays of an outcome are views of the batch's arrays. The outcome
    of a job is InvalidInput if its shapes do not match, a value is not finite, σ ≤ 0, L is not lower triangular with a
    positive diagonal, or a result overflows float64. Pointers are the names of the fields, with the index of the
    element; the name of the scale is its parametrization.
    """
    return run_batch(jobs, _prepare, _compute, _diagnose, device)


def _prepare(job: ReparameterizationJob) -> tuple[_Key, ReparameterizationJob]:
    mu, scale, noise, grad_z = as_array(job.mu), as_array(job.scale), as_array(job.noise), as_array(job.grad_z)
    parametrization, weight, shape = job.parametrization, job.kl_weight, mu.shape
    if parametrization not in PARAMETRIZATIONS:
        detail = f"parametrization = {parametrization!r}: it must be one of {list(PARAMETRIZATIONS)}"
        raise InvalidInput(detail, pointer="/parametrization", allowed=list(PARAMETRIZATIONS))
    stacked = parametrization == "scale_tril"
    scale_shape = shape + shape[-1:] if stacked else shape
    require_vectors("mu", mu)
    if not (noise.shape == grad_z.shape == shape and scale.shape == scale_shape):
        require_shape("noise", noise, shape, "mu")
        require_shape("grad_z", grad_z, shape, "mu")
        require_shape(parametrization, scale, scale_shape, "mu")
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


def _sigma_of(theta: torch.Tensor, parametrization: Parametrization) -> tuple[torch.Tensor, torch.Tensor]:
    """σ and dσ/dθ of the parameter θ, elementwise."""
    if parametrization == "log_variance":
        sigma = torch.exp(0.5 * theta)
        return sigma, 0.5 * sigma
    if parametrization == "softplus":
        return softplus_and_sigmoid(theta)
    return theta, torch.ones_like(theta)


def _kl_parts(
    theta: torch.Tensor, parametrization: Parametrization, sigma: torch.Tensor, slope: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x = σ² - 1, log σ² and (dσ/dθ)/σ, elementwise. The gradient of the KL is x·(dσ/dθ)/σ, as dKL/dσ = x/σ."""
    if parametrization == "log_variance":
        return torch.expm1(theta), theta, torch.full_like(theta, 0.5)
    x = (sigma - 1) * (sigma + 1)  # σ - 1 is exact near 1, where σ² - 1 would cancel
    if parametrization == "softplus":
        tiny = theta < _SOFTPLUS_IS_EXP  # σ may underflow to 0 there, but its logarithm and the ratio do not
        return x, 2 * torch.where(tiny, theta, sigma.log()), torch.where(tiny, torch.ones_like(theta), slope / sigma)
    return x, 2 * sigma.log(), 1 / sigma


def _compute_diagonal(
    key: _Key, jobs: list[ReparameterizationJob], device: torch.device
) -> tuple[list[Reparameterization], bool]:
    parametrization, with_kl, _ = key
    columns, shapes = _columns(jobs)
    layout = lay_out([array.size for array in columns[0]])
    packed = pack(columns, layout)

    def elements(
        mu: torch.Tensor, theta: torch.Tensor, noise: torch.Tensor, grad_z: torch.Tensor, *beta: torch.Tensor
    ) -> list[torch.Tensor]:
        sigma, slope = _sigma_of(theta, parametrization)
        # No fused multiply-add, which rounds only once, and which only some kernels, or parts of one, would use.
        found = [mu + sigma * noise, grad_z * noise * slope]
        return found + (_kl_elements(mu, _kl_parts(theta, parametrization, sigma, slope), *beta) if beta else [])

    beta = [spread(_weights(jobs), layout.lengths)] if with_kl else []
    z, grad_scale, *of_kl = elementwise(elements, [*packed, *beta], device)
    sound = all_finite(packed.numpy(), z, grad_scale)
    sound = sound and (parametrization != "sigma" or bool((packed[1] > 0).all()))
    parts = [unpack(values, layout, shapes) for values in (z, packed[3].numpy(), grad_scale)]
    if with_kl:
        terms, *grads = of_kl
        divergences = sum_rows(terms, layout, shapes)
        sound = sound and all_finite(np.concatenate(divergences, axis=None), *grads)
        parts += [divergences, *(unpack(grad, layout, shapes) for grad in grads)]
    return list(starmap(Reparameterization, zip(*parts, strict=True))), sound


def _columns(jobs: list[ReparameterizationJob]) -> tuple[list[list[Array]], list[tuple[int, ...]]]:
    """mu, scale, noise and grad_z of all jobs, which `_prepare` converted to ndarrays, and the shapes of mu."""
    mus, scales, _, noises, grads, _ = zip(*jobs, strict=True)
    return cast("list[list[Array]]", [mus, scales, noises, grads]), [mu.shape for mu in mus]


def _weights(jobs: list[ReparameterizationJob]) -> list[float]:
    return [job.kl_weight or 0.0 for job in jobs]


def _kl_elements(
    mu: torch.Tensor, parts: tuple[torch.Tensor, torch.Tensor, torch.Tensor], beta: torch.Tensor
) -> list[torch.Tensor]:
    """½ (σ² - 1 - log σ² + μ²), β μ, and β (σ² - 1)/σ · dσ/dθ, elementwise."""
    x, log_variance, slope = parts
    return [0.5 * (excess(x, log_variance) + mu * mu), beta * mu, beta * (x * slope)]


# Full covariance


def _compute_tril(
    key: _Key, jobs: list[ReparameterizationJob], device: torch.device
) -> tuple[list[Reparameterization], bool]:
    """All jobs of one D, stacked to L (R, D, D) and mu, noise and grad_z (R, D), with R rows in total."""
    _, with_kl, width = key
    columns, shapes = _columns(jobs)
    stacked = [np.concatenate(column, axis=None).reshape(-1, width) for column in columns]
    mu, rows, noise, grad_z = (torch.from_numpy(array).to(device) for array in stacked)
    factor = rows.reshape(-1, width, width)
    z = mu + triangular.times(factor, noise)
    flat = [z.cpu().numpy(), stacked[3], triangular.outer(grad_z, noise).cpu().numpy()]
    diagonal = factor.diagonal(dim1=-2, dim2=-1)
    sound = all_finite(*stacked, *flat) and bool((diagonal > 0).all()) and triangular.is_lower(factor)
    square = [shape + shape[-1:] for shape in shapes]
    parts = [_split(values, part) for values, part in zip(flat, (shapes, shapes, square), strict=True)]
    if with_kl:
        divergences, grads = _tril_kl(_weights(jobs), columns, factor, shapes)
        sound = sound and all_finite(divergences, *grads)
        parts.append(_split(divergences, [shape[:-1] for shape in shapes]))
        parts += [_split(grads[0], shapes), _split(grads[1], square)]
    return list(starmap(Reparameterization, zip(*parts, strict=True))), sound


def _split(values: Array, shapes: list[tuple[int, ...]]) -> list[Array]:
    """Each job's part of a buffer without pads."""
    stops = list(accumulate(map(math.prod, shapes)))
    return unpack(values.reshape(-1), Layout([0, *stops[:-1]], stops, stops[-1]), shapes)


def _tril_kl(
    weights: list[float], columns: list[list[Array]], factor: torch.Tensor, shapes: list[tuple[int, ...]]
) -> tuple[Array, tuple[Array, Array]]:
    """½ (tr LLᵀ + μᵀμ - D - 2 Σ log L_ii), (R,); β μ, (R·D,); β (tril(L) - diag(1/L_ii)), (R, D, D).

    The diagonal is treated as σ, which keeps its accuracy near 1. The entries below it contribute only squares.
    """
    width, device = factor.shape[-1], factor.device
    layout = lay_out([mu.size for mu in columns[0]])
    diagonals = [scale.reshape(-1, width * width)[:, :: width + 1] for scale in columns[1]]

    def elements(mu: torch.Tensor, diagonal: torch.Tensor, beta: torch.Tensor) -> list[torch.Tensor]:
        return _kl_elements(mu, _kl_parts(diagonal, "sigma", diagonal, torch.ones_like(diagonal)), beta)

    columns_of_kl = [*pack([columns[0], diagonals], layout), spread(weights, layout.lengths)]
    terms, *on_diagonal = elementwise(elements, columns_of_kl, device)
    divergences = np.concatenate(sum_rows(terms, layout, shapes), axis=None)
    rows = [math.prod(shape[:-1]) for shape in shapes]
    beta = spread(weights, rows)
    off_diagonal, squares = triangular.below(factor, beta.to(device))
    grad_mu, grad_on = (np.concatenate(unpack(grad, layout, shapes), axis=None) for grad in on_diagonal)
    grad_factor = off_diagonal.cpu().numpy()
    grad_factor.reshape(-1, width * width)[:, :: width + 1] = grad_on.reshape(-1, width)
    with np.errstate(all="ignore"):  # overflows are diagnosed later
        return divergences + 0.5 * squares.cpu().numpy(), (grad_mu, grad_factor)


# Diagnosis of a bad job


def _diagnose(job: ReparameterizationJob, result: Reparameterization) -> None:
    (mu,), (scale,), (noise,), (grad_z,) = _columns([job])[0]
    field = job.parametrization
    for name, array in (("mu", mu), (field, scale), ("noise", noise), ("grad_z", grad_z)):
        require(np.isfinite(array), name, array, "a finite number")
    if field == "sigma":
        require(scale > 0, field, scale, "> 0")
    if field == "scale_tril":
        width = mu.shape[-1]
        require(np.tri(width, dtype=np.bool_) | (scale == 0), field, scale, "0", "L must be lower triangular")
        require(~np.eye(width, dtype=np.bool_) | (scale > 0), field, scale, "> 0", "L's diagonal must be > 0")
    with np.errstate(all="ignore"):
        _diagnose_overflow(job, result)


def _diagnose_overflow(job: ReparameterizationJob, result: Reparameterization) -> None:
    """If a result overflows, blame the largest factor of its largest term; see `overflow.accuse`."""
    (mu,), (scale,), (noise,), (grad_z,) = _columns([job])[0]
    field = job.parametrization
    # With a full L, elements are (..., i, j): L_ij v_j is a term of z_i, and g_i v_j is the gradient in L_ij.
    full = field == "scale_tril"
    elements = range(scale.ndim)
    row, column = (elements[:-1], [*elements[:-2], elements[-1]]) if full else (elements, elements)
    mus, noises, grads = (mu[..., None], noise[..., None, :], grad_z[..., None]) if full else (mu, noise, grad_z)

    def factor(name: str, values: Array, axes: Sequence[int]) -> Callable[[Part], Factor]:
        return lambda part: Factor(name, part(values), log_abs(part(values)), axes=axes)

    def of_scale(part: Part, kind: int, cure: str = SMALLER) -> Factor:
        values = part(scale)
        return Factor(field, values, _logs(values, field)[kind], cure)

    of_mu, of_noise, of_grad = factor("mu", mus, row), factor("noise", noises, column), factor("grad_z", grads, row)

    def suspects(values: Array) -> NDArray[np.bool_]:
        bad = ~np.isfinite(values)
        return np.broadcast_to(bad if bad.ndim == scale.ndim else bad[..., None], scale.shape)

    accuse(suspects(result.z), lambda part: [[of_scale(part, 0), of_noise(part)], [of_mu(part)]], "z overflows float64")
    accuse(
        suspects(result.grad_scale),
        lambda part: [[of_grad(part), of_noise(part), of_scale(part, 1)]],
        f"the gradient in {field} overflows float64",
    )
    if result.kl is None or result.kl_grad_mu is None or result.kl_grad_scale is None:
        return
    weight = np.asarray(float(job.kl_weight or 0))
    # With a weight of 0, the KL itself overflows.
    of_weight = Factor("kl_weight", weight, log_abs(weight) if weight > 0 else weight, axes=())

    def slopes(part: Part) -> list[Product]:
        small = _logs(part(scale), field)[0] < 0
        larger, smaller = of_scale(part, 2, LARGER), of_scale(part, 2)
        return [
            [larger._replace(log=np.where(small, larger.log, -np.inf)), of_weight],
            [smaller._replace(log=np.where(small, -np.inf, smaller.log)), of_weight],
        ]

    why = "kl_weight times the gradient of the KL to N(0, I) overflows float64"
    accuse(suspects(result.kl_grad_scale), slopes, why)
    accuse(suspects(result.kl_grad_mu), lambda part: [[of_mu(part), of_weight]], why)

    def terms(part: Part) -> list[Product]:
        sigma, means = of_scale(part, 0), of_mu(part)
        # Zeros of L have no logarithm, and only its diagonal enters the KL by its logarithm.
        logarithm = log_abs(np.where(np.isfinite(sigma.log), sigma.log, 0))
        return [
            [sigma._replace(log=2 * sigma.log)],
            [means._replace(log=2 * means.log)],
            [sigma._replace(log=logarithm)],
        ]

    kl = result.kl[..., None] if full else result.kl
    accuse(suspects(kl), terms, "the KL to N(0, I) overflows float64")


def _logs(scale: Array, parametrization: Parametrization) -> tuple[Array, Array, Array]:
    """Logarithms of σ, |dσ/dθ| and |dKL/dθ|, elementwise for the scale θ; for L, of its entries."""
    if parametrization == "log_variance":
        return 0.5 * scale, np.log(0.5) + 0.5 * scale, np.where(scale > 40, scale, log_abs(np.expm1(scale)))
    log = log_abs(scale)
    if parametrization == "softplus":
        log = np.where(scale < _SOFTPLUS_IS_EXP, scale, log_abs(np.logaddexp(scale, 0)))
    # dKL/dσ = σ - 1/σ; dσ/dρ is at most 1, and σ ≥ e^ρ where it is smaller.
    return log, np.zeros_like(scale), np.abs(log)
