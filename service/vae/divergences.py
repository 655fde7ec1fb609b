"""Divergences with their gradients, for many requests at once: Gaussian against Gaussian, label against logistic model.

A job's result is the same to the bit alone and in any batch (see `ragged`). `docs/mathematics.md` derives the formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from ..errors import InvalidInput
from .inputs import (
    Array,
    Real,
    all_finite,
    as_array,
    require,
    require_shape,
    require_vectors,
)
from .ragged import (
    Device,
    lay_out,
    only,
    pack,
    run_batch,
    spread_rows,
    sum_rows,
    unpack,
)

GaussianScale = Literal["sigma", "log_variance"]

# Below this |x|, x - log(1 + x) is summed as a series; above, the subtraction loses four bits at most.
_NEAR = 0.125


class GaussianPair(NamedTuple):
    """q = N(mu_q, σ_q²) and p = N(mu_p, σ_p²), diagonal; four arrays of one shape, (D,) or (B, D).

    `scale_q` and `scale_p` are σ > 0 or log σ², as `parametrization_q` and `parametrization_p` say.
    """

    mu_q: Real
    scale_q: Real
    mu_p: Real
    scale_p: Real
    parametrization_q: GaussianScale = "sigma"
    parametrization_p: GaussianScale = "sigma"


class GaussianDivergence(NamedTuple):
    """KL(q‖p) in nats, () or (B,), and its gradients in the four arrays given, each (D,) or (B, D)."""

    divergence: Array
    grad_mu_q: Array
    grad_scale_q: Array
    grad_mu_p: Array
    grad_scale_p: Array


def excess(x: torch.Tensor, log1p_x: torch.Tensor) -> torch.Tensor:
    """x - log(1 + x), given both terms, elementwise for x ≥ -1: never negative, 0 only at 0, accurate near it.

    Near 0, with r = x/(2 + x), log(1 + x) = 2 artanh(r) = 2(r + r³/3 + r⁵/5 + ...) and x - 2r = x·r, hence
    r·(x - 2r²(1/3 + r²/5 + ...)): nothing cancels.
    """
    r = x / (x + 2)
    square = r * r
    series = square * (1 / 13)
    for odd in (11, 9, 7, 5, 3):
        series.add_(1 / odd).mul_(square)
    near = series.mul_(-2).add_(x).mul_(r)
    return torch.where(x.abs() < _NEAR, near, x - log1p_x)


def to_standard_normal(mu: Real, scale: Real, parametrization: GaussianScale = "sigma") -> GaussianPair:
    """The pair whose p is N(0, I)."""
    mu = as_array(mu)
    return GaussianPair(mu, scale, np.zeros_like(mu), np.zeros_like(mu), parametrization, "log_variance")


def gaussian_kl(pair: GaussianPair, *, device: Device = "cpu") -> GaussianDivergence:
    """KL(q‖p) of one job. Raises InvalidInput as `gaussian_kl_batch` answers it."""
    return only(gaussian_kl_batch([pair], device=device))


def gaussian_kl_batch(
    pairs: Sequence[GaussianPair], *, device: Device = "cpu"
) -> list[GaussianDivergence | InvalidInput]:
    """KL(q‖p) = ½ Σ_d (σ_q²/σ_p² - 1 - log(σ_q²/σ_p²) + (μ_q - μ_p)²/σ_p²) of each job, with gradients, in nats.

    Jobs may differ in B and D. A job's outcome is the same to the bit alone and in any batch. It is InvalidInput for
    shapes that differ, values that are not finite, σ ≤ 0, and where float64 cannot hold the answer; pointers are
    /q/mu, /q/sigma, /q/log_variance and the same under /p, with the index of the element.
    """
    return run_batch(pairs, _prepare_pair, _compute_pairs, _diagnose_pair, device)


def _prepare_pair(pair: GaussianPair) -> tuple[tuple[GaussianScale, GaussianScale], GaussianPair]:
    mu_q, scale_q, mu_p, scale_p = map(as_array, pair[:4])
    key = pair.parametrization_q, pair.parametrization_p
    for side, kind in zip("qp", key, strict=True):
        if kind not in get_args(GaussianScale):
            allowed = list(get_args(GaussianScale))
            raise InvalidInput(f"{side} cannot be given by {kind!r}", pointer=f"/{side}", allowed=allowed)
    require_vectors("q/mu", mu_q)
    for field, array in ((f"q/{key[0]}", scale_q), ("p/mu", mu_p), (f"p/{key[1]}", scale_p)):
        require_shape(field, array, mu_q.shape, "q/mu")
    return key, GaussianPair(mu_q, scale_q, mu_p, scale_p, *key)


def _compute_pairs(
    key: tuple[GaussianScale, GaussianScale], pairs: list[GaussianPair], device: torch.device
) -> tuple[list[GaussianDivergence], bool]:
    columns = [[as_array(array) for array in column] for column in list(zip(*pairs, strict=True))[:4]]
    shapes = [mu.shape for mu in columns[0]]
    layout = lay_out([mu.size for mu in columns[0]])
    packed = pack(columns, layout)
    mu_q, scale_q, mu_p, scale_p = packed.to(device)
    log_q, log_p = (2 * s.log() if kind == "sigma" else s for s, kind in zip((scale_q, scale_p), key, strict=True))
    precision = 1 / scale_p if key[1] == "sigma" else torch.exp(-0.5 * scale_p)  # 1/σ_p
    if key == ("sigma", "sigma"):
        # σ_q - σ_p is exact near equality, which exp of a difference of logarithms is not.
        u = (scale_q - scale_p) / scale_p
        x = u * (u + 2)
    else:
        x = torch.expm1(log_q - log_p)  # x = σ_q²/σ_p² - 1
    shift = mu_q - mu_p
    # Equal means cost nothing, even where 1/σ_p overflows: 0·∞ is 0 here.
    d = torch.where(shift == 0, shift, shift * precision)
    slope = torch.where(shift == 0, shift, d * precision)
    terms = 0.5 * (excess(x, log_q - log_p) + d * d)
    grad_q = x / scale_q if key[0] == "sigma" else 0.5 * x
    grad_p = -(x + d * d) / scale_p if key[1] == "sigma" else -0.5 * (x + d * d)
    gradients = [part.cpu().numpy() for part in (slope, grad_q, -slope, grad_p)]
    divergences = sum_rows(terms.cpu().numpy(), layout, shapes)
    sound = (
        all_finite(packed.numpy(), np.concatenate(divergences, axis=None), *gradients)
        and (key[0] != "sigma" or bool((packed[1] > 0).all()))
        and (key[1] != "sigma" or bool((packed[3] > 0).all()))
    )
    parts = (unpack(gradient, layout, shapes) for gradient in gradients)
    return list(starmap(GaussianDivergence, zip(divergences, *parts, strict=True))), sound


def _diagnose_pair(pair: GaussianPair, result: GaussianDivergence) -> None:
    mu_q, scale_q, mu_p, scale_p = map(as_array, pair[:4])
    name_q, name_p = f"q/{pair.parametrization_q}", f"p/{pair.parametrization_p}"
    for field, array in (("q/mu", mu_q), (name_q, scale_q), ("p/mu", mu_p), (name_p, scale_p)):
        require(np.isfinite(array), field, array, "a finite number")
        if field.endswith("sigma"):
            require(array > 0, field, array, "> 0")
    why, allowed = "the divergence, or its gradient, overflows float64", "values whose divergence fits float64"
    with np.errstate(all="ignore"):
        square = (mu_q - mu_p) ** 2
    require(np.isfinite(result.grad_scale_q), name_q, scale_q, allowed, why)
    require(np.isfinite(square), "q/mu", mu_q, allowed, why)
    require(np.isfinite(result.grad_mu_q) & np.isfinite(result.grad_scale_p), name_p, scale_p, allowed, why)
    # What is left: d² or a sum over elements that are finite one by one.
    rows = np.broadcast_to(np.isfinite(result.divergence)[..., None], mu_q.shape)
    require(rows, "q/mu", mu_q, allowed, why)


# Label against logistic model


class LabelledPoint(NamedTuple):
    """A label y in {0, 1} of a point x under weights w, in the model Q(y=0|x) = sigmoid(wᵀx).

    x (D,) or (B, D); w (D,), shared by all rows, or of x's shape; y () or (B,).
    """

    x: Real
    w: Real
    y: Real


class LogisticDivergence(NamedTuple):
    """-log Q(y|x) in nats and wᵀx, () or (B,); gradients of the rows' sum: grad_w like w, grad_x like x."""

    divergence: Array
    logit: Array
    grad_w: Array
    grad_x: Array


def logistic_divergence(point: LabelledPoint, *, device: Device = "cpu") -> LogisticDivergence:
    """The divergence of one job. Raises InvalidInput as `logistic_divergence_batch` answers it."""
    return only(logistic_divergence_batch([point], device=device))


def logistic_divergence_batch(
    points: Sequence[LabelledPoint], *, device: Device = "cpu"
) -> list[LogisticDivergence | InvalidInput]:
    """softplus((2y-1) wᵀx) of each row in nats, with gradients (y - 1 + sigmoid(wᵀx))·x in w and (...)·w in x.

    Jobs may differ in B and D. A job's outcome is the same to the bit alone and in any batch. It is InvalidInput for
    shapes that do not fit, values that are not finite, y outside {0, 1}, and a wᵀx, or a sum of gradients, that
    float64 cannot hold; pointers are /x, /w and /y with the index of the element.
    """
    return run_batch(points, _prepare_point, _compute_points, _diagnose_point, device)


def softplus_and_sigmoid(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log(1 + eᵃ) and 1/(1 + e⁻ᵃ), elementwise, to a few ulps for every finite a, both tails included."""
    e = torch.exp(-a.abs())
    return a.clamp_min(0) + torch.log1p(e), torch.where(a >= 0, torch.ones_like(e), e) / (1 + e)


def _prepare_point(point: LabelledPoint) -> tuple[None, LabelledPoint]:
    x, w, y = map(as_array, point)
    require_vectors("x", x)
    if w.shape != x.shape:
        require_shape("w", w, x.shape[-1:], "x")
    require_shape("y", y, x.shape[:-1], "x")
    return None, LabelledPoint(x, w, y)


def _compute_points(
    key: None, points: list[LabelledPoint], device: torch.device
) -> tuple[list[LogisticDivergence], bool]:
    xs, ws, ys = ([as_array(array) for array in column] for column in zip(*points, strict=True))
    shapes = [x.shape for x in xs]
    layout, rows = lay_out([x.size for x in xs]), lay_out([y.size for y in ys])
    wide = [w if w.shape == shape else np.broadcast_to(w, shape) for w, shape in zip(ws, shapes, strict=True)]
    packed = pack([xs, wide], layout)
    x, w = packed.to(device)
    packed_rows = pack([sum_rows((x * w).cpu().numpy(), layout, shapes), ys], rows)
    t, y = packed_rows.to(device)
    sign = 2 * y - 1
    divergence, sigmoid = softplus_and_sigmoid(sign * t)
    # y - 1 + sigmoid(t) = (2y-1)·sigmoid((2y-1)t), which keeps its relative accuracy where the left side cancels.
    residual = unpack((sign * sigmoid).cpu().numpy(), rows, [y.shape for y in ys])
    slope = torch.from_numpy(spread_rows(residual, layout, shapes)).to(device)
    grads_w = unpack((slope * x).cpu().numpy(), layout, shapes)
    grads_x = unpack((slope * w).cpu().numpy(), layout, shapes)
    with np.errstate(all="ignore"):
        # Rows are added one after the other: the order is the job's own.
        grads_w = [
            grad if w.shape == grad.shape else np.add.reduce(grad, axis=0) for w, grad in zip(ws, grads_w, strict=True)
        ]
    divergences = unpack(divergence.cpu().numpy(), rows, [y.shape for y in ys])
    logits = unpack(packed_rows[0].numpy(), rows, [y.shape for y in ys])
    labels = packed_rows[1]
    sound = all_finite(packed.numpy(), packed_rows.numpy(), np.concatenate(grads_w, axis=None)) and bool(
        ((labels == 0) | (labels == 1)).all()
    )
    return list(starmap(LogisticDivergence, zip(divergences, logits, grads_w, grads_x, strict=True))), sound


def _diagnose_point(point: LabelledPoint, result: LogisticDivergence) -> None:
    x, w, y = map(as_array, point)
    for field, array in (("x", x), ("w", w)):
        require(np.isfinite(array), field, array, "a finite number")
    require((y == 0) | (y == 1), "y", y, "0 or 1")
    why, allowed = "wᵀx, or a gradient, overflows float64", "values whose wᵀx fits float64"
    require(np.broadcast_to(np.isfinite(result.logit)[..., None], x.shape), "x", x, allowed, why)
    require(np.broadcast_to(np.isfinite(result.grad_w), w.shape), "w", w, allowed, why)
