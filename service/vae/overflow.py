"""Which value of a request to blame where a result overflows float64.

A result that overflows is a sum whose largest term is a product of powers of the request's values. The factor that
contributes most to the logarithm of that product is to blame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .inputs import Array, refusal

SMALLER, LARGER, CLOSER = "a smaller value", "a larger value", "means that are closer together"
# Logarithms within this relative distance are equal: the first one is blamed, whatever the rounding of log.
_TIE = 1e-9


class Factor(NamedTuple):
    """One factor of a product, elementwise."""

    field: str
    """The request's field, with slashes between nested names."""
    values: Array
    """The field's values; they broadcast to the shape S of the elements."""
    log: Array
    """log of the factor's absolute value, broadcasting to S."""
    cure: str = SMALLER
    axes: Sequence[int] | None = None
    """The axes of S that index the field; None for all, empty for a scalar."""


Product = Sequence[Factor]


def log_abs(values: Array) -> Array:
    """log|x| of any shape, -inf for 0."""
    with np.errstate(divide="ignore"):
        logs: Array = np.log(np.abs(values))
    return logs


def accuse(suspects: NDArray[np.bool_], products: Sequence[Product], why: str) -> None:
    """Blame a value of the request if any of `suspects`, of any shape S, is true.

    Args:
        suspects: elements that belong to a result that is not finite.
        products: the terms of the results; each broadcasts to S.
        why: what overflows, as the end of the sentence that starts with the value.

    Raises:
        InvalidInput: the largest factor of the largest product among the suspects; on a tie the first one.
    """
    if not suspects.any():
        return
    shape = suspects.shape
    with np.errstate(all="ignore"):
        totals = np.stack([np.broadcast_to(sum(factor.log for factor in product), shape) for product in products])
    totals = np.where(suspects & ~np.isnan(totals), totals, -np.inf)
    number, *element = map(int, np.unravel_index(_first_largest(totals), totals.shape))
    index = tuple(element)
    product = products[number]
    factor = product[_first_largest(np.array([np.broadcast_to(factor.log, shape)[index] for factor in product]))]
    value = np.broadcast_to(factor.values, shape)[index]
    axes = range(len(shape)) if factor.axes is None else factor.axes
    raise refusal(factor.field, [index[axis] for axis in axes], value, f"{why}; use {factor.cure}", factor.cure)


def _first_largest(logs: Array) -> int:
    """The flat index of the first element that equals the largest one, up to rounding."""
    top = logs.max()
    near = logs >= top - _TIE * abs(top) if np.isfinite(top) else logs == top
    return int(np.flatnonzero(near)[0])
