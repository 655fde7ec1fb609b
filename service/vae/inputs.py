"""Input arrays of the VAE's mathematics: their type, and the checks that name the element at fault."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InvalidInput
from ..runtime import turns
from . import parts

Array = NDArray[np.float64]
Real = NDArray[np.float64] | torch.Tensor

_FLOAT64 = np.dtype(np.float64)


def as_array(value: Real) -> Array:
    """`value` of any shape as a float64 ndarray on the CPU, without a copy if it is one already."""
    if isinstance(value, np.ndarray) and value.dtype is _FLOAT64:
        return value
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    return np.asarray(value, dtype=np.float64)


def all_finite(*arrays: Array) -> bool:
    """Whether no element of any of `arrays` is NaN or infinite."""
    return all(map(_is_finite, arrays))


def _is_finite(array: Array) -> bool:
    if array.size <= parts.PART_ELEMENTS:
        return bool(np.isfinite(array).all())
    flat = array.reshape(-1)
    return all(bool(np.isfinite(flat[part]).all()) for part in parts.spans(flat.size))


def refusal(field: str, index: Sequence[int], value: object, why: str, allowed: str) -> InvalidInput:
    """The error for one element of a request.

    Args:
        field: the request's field, with slashes between nested names.
        index: of the element in the field; empty for a scalar.
        value: the element.
        why: the cause, as the end of the sentence that starts with the element and its value.
        allowed: what would be accepted.
    """
    pointer = "/".join(["", field, *map(str, index)])
    name = field.replace("/", ".") + (str(list(index)) if index else "")
    return InvalidInput(f"{name} = {value!s}: {why}", pointer=pointer, allowed=allowed)


def require(holds: NDArray[np.bool_], field: str, values: Array, allowed: str, why: str = "") -> None:
    """Check a condition on every element of `values`, of any shape; `holds` has the same shape.

    Raises:
        InvalidInput: `holds` is false somewhere; the error names the first such element.
    """
    turns.give_way()
    first = int(holds.argmin()) if holds.size else 0  # `flatnonzero` would hold the interpreter's lock
    if holds.size and not holds.flat[first]:
        index = [int(i) for i in np.unravel_index(first, holds.shape)]
        raise refusal(field, index, values[tuple(index)], why or f"it must be {allowed}", allowed)


def require_shape(field: str, array: Array, shape: tuple[int, ...], like: str) -> None:
    """Check that `array` has `shape`, which follows from the shape of the field `like`.

    Raises:
        InvalidInput: it has another shape.
    """
    if array.shape != shape:
        detail = f"{field} has shape {list(array.shape)}; to fit {like}, it must have shape {list(shape)}"
        raise InvalidInput(detail, pointer=f"/{field}", allowed=list(shape))


def require_vectors(field: str, array: Array) -> None:
    """Check that `array` has shape (D,) or (B, D), with D ≥ 1 and B ≥ 1.

    Raises:
        InvalidInput: it has another shape, or is empty.
    """
    if array.ndim not in (1, 2) or array.size == 0:
        detail = f"{field} has shape {list(array.shape)}; it must be one vector (D,) or several (B, D), with D, B ≥ 1"
        raise InvalidInput(detail, pointer=f"/{field}", allowed="shape (D,) or (B, D), not empty")
