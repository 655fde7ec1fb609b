"""Which value of a request to blame where a result overflows float64.

A result that overflows is a sum whose largest term is a product of powers of the request's values. The factor that
contributes most to the logarithm of that product is to blame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..runtime import turns
from . import parts
from .inputs import Array, refusal

SMALLER, LARGER, CLOSER = "a smaller value", "a larger value", "means that are closer together"
# Logarithms within this relative distance are equal: the first one is blamed, whatever the rounding of log.
_TIE = 1e-9


class Factor(NamedTuple):
    """One factor of a product, elementwise."""

    field: str
    """The request's field, with slashes between nested names."""
    values: Array
    """The field's values in one part of the elements; they broadcast to its shape (K,)."""
    log: Array
    """log of the factor's absolute value, broadcasting to (K,)."""
    cure: str = SMALLER
    axes: Sequence[int] | None = None
    """The axes of the elements that index the field; None for all, empty for a scalar."""


Product = Sequence[Factor]
Part = Callable[[Array], Array]
"""From an array that broadcasts to the shape of all elements to its values in one part of them, (K,)."""


def log_abs(values: Array) -> Array:
    """log|x| of any shape, -inf for 0."""
    with np.errstate(divide="ignore"):
        logs: Array = np.log(np.abs(values))
    return logs


def accuse(suspects: NDArray[np.bool_], products: Callable[[Part], Sequence[Product]], why: str) -> None:
    """Blame a value of the request if any of `suspects`, of any shape S, is true.

    Args:
        suspects: elements that belong to a result that is not finite.
        products: the terms of the results for the elements of one part.
        why: what overflows, as the end of the sentence that starts with the value.

    Raises:
        InvalidInput: the largest factor of the largest product among the suspects; on a tie the first one.
    """
    flat = suspects.reshape(-1)
    spans = [span for span in parts.spans(flat.size) if flat[span].any()]
    if not spans:
        return
    tops = np.empty((len(spans), len(products(_part(suspects.shape, spans[0])))))
    for top, span in zip(tops, spans, strict=True):
        turns.give_way()
        top[:] = _totals(products(_part(suspects.shape, span)), flat[span]).max(axis=1)
    bound = _bound(tops.max())
    number = int((tops >= bound).any(axis=0).argmax())
    span = spans[int((tops[:, number] >= bound).argmax())]
    found = products(_part(suspects.shape, span))
    place = int(((_totals(found, flat[span])[number] >= bound) & flat[span]).argmax())
    logs = np.array([_of_part(factor.log, span)[place] for factor in found[number]])
    factor = found[number][int((logs >= _bound(logs.max())).argmax())]
    index = [int(step) for step in np.unravel_index(span.start + place, suspects.shape)]
    axes = range(len(index)) if factor.axes is None else factor.axes
    value = _of_part(factor.values, span)[place]
    raise refusal(factor.field, [index[axis] for axis in axes], value, f"{why}; use {factor.cure}", factor.cure)


def _part(shape: tuple[int, ...], span: slice) -> Part:
    def part(values: Array) -> Array:
        if values.shape == shape and values.flags.c_contiguous:
            return values.reshape(-1)[span]
        # Only these elements are copied.
        return np.asarray(np.broadcast_to(values, shape).flat[span])

    return part


def _of_part(values: Array, span: slice) -> Array:
    return np.broadcast_to(values, (span.stop - span.start,))


def _totals(products: Sequence[Product], suspects: NDArray[np.bool_]) -> Array:
    """The logarithms of the products, (P, K); -inf where there is no suspect."""
    with np.errstate(all="ignore"):
        totals = np.stack(
            [np.broadcast_to(sum(factor.log for factor in product), suspects.shape) for product in products]
        )
    return np.where(suspects & ~np.isnan(totals), totals, -np.inf)


def _bound(top: np.float64) -> np.float64:
    """The least value that equals `top`, up to rounding."""
    return top - _TIE * abs(top) if np.isfinite(top) else top
