"""KL(q‖p) of two diagonal Gaussians with its gradients, in ragged batches.

`docs/mathematics/reparameterization.md` derives the formulas, and `ragged` makes results independent of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from ..errors import InvalidInput
from .elementary import excess
from .inputs import Array, Real, all_finite, as_array, require, require_shape, require_vectors
from .overflow import CLOSER, LARGER, SMALLER, Factor, Part, Product, accuse, log_abs
from .ragged import Device, elementwise, lay_out, only, pack, run_batch, sum_rows, unpack

GaussianScale = Literal["sigma", "log_variance"]


class GaussianPair(NamedTuple):
    """q = N(mu_q, σ_q²) and p = N(mu_p, σ_p²), both diagonal; four arrays of one shape, (D,) or (B, D).

    `scale_q` and `scale_p` are σ > 0 or log σ², according to `parametrization_q` and `parametrization_p`.
    """

    mu_q: Real
    scale_q: Real
    mu_p: Real
    scale_p: Real
    parametrization_q: GaussianScale = "sigma"
    parametrization_p: GaussianScale = "sigma"


class GaussianDivergence(NamedTuple):
    """KL(q‖p) in nats, () or (B,), and its gradients in the four given arrays, each (D,) or (B, D)."""

    divergence: Array
    grad_mu_q: Array
    grad_scale_q: Array
    grad_mu_p: Array
    grad_scale_p: Array


def to_standard_normal(mu: Real, scale: Real, parametrization: GaussianScale = "sigma") -> GaussianPair:
    """The pair of q = N(mu, σ²) and p = N(0, I); `mu` and `scale` (σ or log σ²) have shape (D,) or (B, D)."""
    mu = as_array(mu)
    return GaussianPair(mu, scale, np.zeros_like(mu), np.zeros_like(mu), parametrization, "log_variance")


def gaussian_kl(pair: GaussianPair, *, device: Device = "cpu") -> GaussianDivergence:
    """KL(q‖p) of one job; see `gaussian_kl_batch`.

    Raises:
        InvalidInput: the outcome of the job is this error.
    """
    return only(gaussian_kl_batch([pair], device=device))


def gaussian_kl_batch(
    pairs: Sequence[GaussianPair], *, device: Device = "cpu"
) -> list[GaussianDivergence | InvalidInput]:
    """KL(q‖p) = ½ Σ_d (σ_q²/σ_p² - 1 - log(σ_q²/σ_p²) + (μ_q - μ_p)²/σ_p²) of each job, with gradients, in nats.

    Jobs may differ in B and D. The outcome of a job is InvalidInput if its shapes differ, a value is not finite, σ ≤ 0,
    or a result overflows float64. Pointers are /q/mu, /q/sigma, /q/log_variance and the same under /p, with the index
    of the element.
    """
    return run_batch(pairs, _prepare, _compute, _diagnose, device)


def _prepare(pair: GaussianPair) -> tuple[tuple[GaussianScale, GaussianScale], GaussianPair]:
    mu_q, scale_q, mu_p, scale_p = map(as_array, pair[:4])
    key = pair.parametrization_q, pair.parametrization_p
    for side, kind in zip("qp", key, strict=True):
        if kind not in get_args(GaussianScale):
            allowed = list(get_args(GaussianScale))
            raise InvalidInput(f"{side} has no parametrization {kind!r}", pointer=f"/{side}", allowed=allowed)
    require_vectors("q/mu", mu_q)
    for field, array in ((f"q/{key[0]}", scale_q), ("p/mu", mu_p), (f"p/{key[1]}", scale_p)):
        require_shape(field, array, mu_q.shape, "q/mu")
    return key, GaussianPair(mu_q, scale_q, mu_p, scale_p, *key)


def _compute(
    key: tuple[GaussianScale, GaussianScale], pairs: list[GaussianPair], device: torch.device
) -> tuple[list[GaussianDivergence], bool]:
    columns = [[as_array(array) for array in column] for column in list(zip(*pairs, strict=True))[:4]]
    shapes = [mu.shape for mu in columns[0]]
    layout = lay_out([mu.size for mu in columns[0]])
    packed = pack(columns, layout)
    *gradients, terms = elementwise(lambda *columns: _elements(key, *columns), [*packed], device)
    divergences = sum_rows(terms, layout, shapes)
    sound = (
        all_finite(packed.numpy(), np.concatenate(divergences, axis=None), *gradients)
        and (key[0] != "sigma" or bool((packed[1] > 0).all()))
        and (key[1] != "sigma" or bool((packed[3] > 0).all()))
    )
    parts = (unpack(gradient, layout, shapes) for gradient in gradients)
    return list(starmap(GaussianDivergence, zip(divergences, *parts, strict=True))), sound


def _elements(
    key: tuple[GaussianScale, GaussianScale],
    mu_q: torch.Tensor,
    scale_q: torch.Tensor,
    mu_p: torch.Tensor,
    scale_p: torch.Tensor,
) -> list[torch.Tensor]:
    """The gradients in the four arguments, and the terms of the divergence, elementwise."""
    log_q, log_p = (2 * s.log() if kind == "sigma" else s for s, kind in zip((scale_q, scale_p), key, strict=True))
    precision = 1 / scale_p if key[1] == "sigma" else torch.exp(-0.5 * scale_p)  # 1/σ_p
    if key == ("sigma", "sigma"):
        # σ_q - σ_p is exact near equality; exp of a difference of logarithms is not.
        u = (scale_q - scale_p) / scale_p
        x = u * (u + 2)
    else:
        x = torch.expm1(log_q - log_p)  # x = σ_q²/σ_p² - 1
    shift = mu_q - mu_p
    # Equal means contribute 0, even where 1/σ_p overflows: here 0·∞ is 0.
    d = torch.where(shift == 0, shift, shift * precision)
    slope = torch.where(shift == 0, shift, d * precision)
    terms = 0.5 * (excess(x, log_q - log_p) + d * d)
    grad_q = x / scale_q if key[0] == "sigma" else 0.5 * x
    grad_p = -(x + d * d) / scale_p if key[1] == "sigma" else -0.5 * (x + d * d)
    return [slope, grad_q, -slope, grad_p, terms]


def _diagnose(pair: GaussianPair, result: GaussianDivergence) -> None:
    mu_q, scale_q, mu_p, scale_p = map(as_array, pair[:4])
    name_q, name_p = f"q/{pair.parametrization_q}", f"p/{pair.parametrization_p}"
    for field, array in (("q/mu", mu_q), (name_q, scale_q), ("p/mu", mu_p), (name_p, scale_p)):
        require(np.isfinite(array), field, array, "a finite number")
        if field.endswith("sigma"):
            require(array > 0, field, array, "> 0")
    why = "the divergence or its gradient overflows float64"
    overflows = np.logical_or.reduce([~np.isfinite(gradient) for gradient in result[1:]])
    accuse(overflows, lambda part: _products(pair, part), why)
    rows = np.broadcast_to(np.isfinite(result.divergence)[..., None], mu_q.shape)
    accuse(~rows, lambda part: _products(pair, part, divergence_only=True), why)


def _products(pair: GaussianPair, part: Part, *, divergence_only: bool = False) -> list[Product]:
    """The products whose sums are the divergence and, unless `divergence_only`, its gradients."""
    mu_q, scale_q, mu_p, scale_p = (part(as_array(array)) for array in pair[:4])
    name_q, name_p = f"q/{pair.parametrization_q}", f"p/{pair.parametrization_p}"
    log_q = log_abs(scale_q) if pair.parametrization_q == "sigma" else 0.5 * scale_q
    log_p = log_abs(scale_p) if pair.parametrization_p == "sigma" else 0.5 * scale_p
    # Half of each mean, because the difference may overflow. The mean of larger magnitude is to blame.
    log_shift = log_abs(0.5 * mu_q - 0.5 * mu_p) + np.log(2)
    blames_q = np.abs(mu_q) >= np.abs(mu_p)

    def q(power: int) -> Factor:
        return Factor(name_q, scale_q, power * log_q, SMALLER if power > 0 else LARGER)

    def p(power: int) -> Factor:
        return Factor(name_p, scale_p, power * log_p, SMALLER if power > 0 else LARGER)

    def with_shift(power: int, scale: Factor) -> list[Product]:
        return [
            [Factor("q/mu", mu_q, np.where(blames_q, power * log_shift, -np.inf), CLOSER), scale],
            [Factor("p/mu", mu_p, np.where(blames_q, -np.inf, power * log_shift), CLOSER), scale],
        ]

    # σ_q²/σ_p² and (μ_q - μ_p)²/σ_p²; logarithms can overflow on their own only where log variances are given.
    products: list[Product] = [[q(2), p(-2)], *with_shift(2, p(-2))]
    if divergence_only:
        return [*products, [Factor(name_q, scale_q, log_abs(log_q))], [Factor(name_p, scale_p, log_abs(log_p))]]
    products += with_shift(1, p(-2))
    if pair.parametrization_q == "sigma":
        products += [[q(1), p(-2)], [q(-1)]]
    if pair.parametrization_p == "sigma":
        products += [[q(2), p(-3)], *with_shift(2, p(-3)), [p(-1)]]
    return products
