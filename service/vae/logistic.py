"""-log Q(y|x) of a label under a logistic model with its gradients, in ragged batches.

`docs/mathematics/reparameterization.md` derives the formulas, and `ragged` makes results independent of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from typing import NamedTuple

import numpy as np
import torch

from ..errors import InvalidInput
from . import parts
from .elementary import softplus_and_sigmoid
from .inputs import Array, Real, all_finite, as_array, require, require_shape, require_vectors
from .overflow import Factor, Part, accuse, log_abs
from .ragged import Device, elementwise, lay_out, only, pack, run_batch, spread_rows, sum_rows, unpack


class LabelledPoint(NamedTuple):
    """A label y in {0, 1} of a point x under weights w, in the model Q(y=0|x) = sigmoid(wᵀx).

    Shapes: x is (D,) or (B, D); w is (D,), shared by all rows, or like x; y is () or (B,).
    """

    x: Real
    w: Real
    y: Real


class LogisticDivergence(NamedTuple):
    """-log Q(y|x) in nats and wᵀx, () or (B,), and the gradients of the sum over rows, shaped like w and x."""

    divergence: Array
    logit: Array
    grad_w: Array
    grad_x: Array


def logistic_divergence(point: LabelledPoint, *, device: Device = "cpu") -> LogisticDivergence:
    """The divergence of one job; see `logistic_divergence_batch`.

    Raises:
        InvalidInput: the outcome of the job is this error.
    """
    return only(logistic_divergence_batch([point], device=device))


def logistic_divergence_batch(
    points: Sequence[LabelledPoint], *, device: Device = "cpu"
) -> list[LogisticDivergence | InvalidInput]:
    """softplus((2y-1) wᵀx) of each row in nats, with gradients r·x in w and r·w in x, where r = y - 1 + sigmoid(wᵀx).

    Jobs may differ in B and D. The outcome of a job is InvalidInput if its shapes do not match, a value is not finite,
    y is neither 0 nor 1, or wᵀx or a gradient overflows float64. Pointers are /x, /w and /y, with the index of the
    element.
    """
    return run_batch(points, _prepare, _compute, _diagnose, device)


def _prepare(point: LabelledPoint) -> tuple[None, LabelledPoint]:
    x, w, y = map(as_array, point)
    require_vectors("x", x)
    if w.shape != x.shape:
        require_shape("w", w, x.shape[-1:], "x")
    require_shape("y", y, x.shape[:-1], "x")
    return None, LabelledPoint(x, w, y)


def _compute(key: None, points: list[LabelledPoint], device: torch.device) -> tuple[list[LogisticDivergence], bool]:
    xs, ws, ys = ([as_array(array) for array in column] for column in zip(*points, strict=True))
    shapes = [x.shape for x in xs]
    layout, rows = lay_out([x.size for x in xs]), lay_out([y.size for y in ys])
    wide = [w if w.shape == shape else np.broadcast_to(w, shape) for w, shape in zip(ws, shapes, strict=True)]
    packed = pack([xs, wide], layout)
    (terms,) = elementwise(lambda x, w: [x * w], [*packed], device)
    packed_rows = pack([sum_rows(terms, layout, shapes), ys], rows)
    divergence, residual = elementwise(_divergence_and_residual, [*packed_rows], device)
    slope = spread_rows(unpack(residual, rows, [y.shape for y in ys]), layout, shapes)
    products = elementwise(lambda slope, x, w: [slope * x, slope * w], [torch.from_numpy(slope), *packed], device)
    grads_w, grads_x = (unpack(values, layout, shapes) for values in products)
    grads_w = [grad if w.shape == grad.shape else _sum_of_rows(grad) for w, grad in zip(ws, grads_w, strict=True)]
    divergences = unpack(divergence, rows, [y.shape for y in ys])
    logits = unpack(packed_rows[0].numpy(), rows, [y.shape for y in ys])
    labels = packed_rows[1]
    sound = all_finite(packed.numpy(), packed_rows.numpy(), np.concatenate(grads_w, axis=None)) and bool(
        ((labels == 0) | (labels == 1)).all()
    )
    return list(starmap(LogisticDivergence, zip(divergences, logits, grads_w, grads_x, strict=True))), sound


def _divergence_and_residual(t: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
    """softplus((2y-1) t) and y - 1 + sigmoid(t), elementwise."""
    sign = 2 * y - 1
    divergence, sigmoid = softplus_and_sigmoid(sign * t)
    # y - 1 + sigmoid(t) = (2y-1)·sigmoid((2y-1)t), which stays accurate where the left side cancels.
    return [divergence, sign * sigmoid]


def _sum_of_rows(grad: Array) -> Array:
    """The sum of the rows (B, D), (D,), added one by one, in an order that depends on B and D alone."""
    with np.errstate(all="ignore"):
        # NumPy adds a single column in pairs, which cannot be divided, but is fast.
        if grad.shape[1] == 1 or grad.size <= parts.PART_ELEMENTS:
            total: Array = np.add.reduce(grad, axis=0)
            return total
        total = grad[:1]
        for part in parts.spans(len(grad), grad.shape[1]):
            rows = grad[max(1, part.start) : part.stop]
            total = np.add.reduce(np.concatenate([total, rows]), axis=0, keepdims=True)
        first: Array = total[0]
        return first


def _diagnose(point: LabelledPoint, result: LogisticDivergence) -> None:
    x, w, y = map(as_array, point)
    for field, array in (("x", x), ("w", w)):
        require(np.isfinite(array), field, array, "a finite number")
    require((y == 0) | (y == 1), "y", y, "0 or 1")

    def of_x(part: Part) -> Factor:
        return Factor("x", part(x), log_abs(part(x)))

    def of_w(part: Part) -> Factor:
        return Factor("w", part(w), log_abs(part(w)), axes=range(x.ndim - w.ndim, x.ndim))

    overflows = np.broadcast_to(~np.isfinite(result.logit)[..., None], x.shape)
    accuse(overflows, lambda part: [[of_x(part), of_w(part)]], "wᵀx overflows float64")
    # |sigmoid| ≤ 1, so a gradient overflows only where the rows of x are summed.
    columns = np.broadcast_to(~np.isfinite(result.grad_w), x.shape)
    accuse(columns, lambda part: [[of_x(part)]], "the gradient in w overflows float64")
