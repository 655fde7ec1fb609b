"""What the slice's mathematics takes as input, and what is said of an input that is wrong."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InvalidInput

Array = NDArray[np.float64]
Real = NDArray[np.float64] | torch.Tensor

_FLOAT64 = np.dtype(np.float64)


def as_array(value: Real) -> Array:
    """A float64 ndarray on the CPU, without a copy where it is one already."""
    if isinstance(value, np.ndarray) and value.dtype is _FLOAT64:
        return value
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    return np.asarray(value, dtype=np.float64)


def all_finite(*arrays: Array) -> bool:
    return all(bool(np.isfinite(array).all()) for array in arrays)


def require(holds: NDArray[np.bool_], field: str, values: Array, allowed: str, why: str = "") -> None:
    """InvalidInput at the first element of `values` for which `holds` is false, with its JSON pointer and value."""
    bad = np.flatnonzero(~holds)
    if bad.size:
        index = [int(i) for i in np.unravel_index(bad[0], holds.shape)]
        pointer = "/".join(["", field, *map(str, index)])
        name = field.replace("/", ".") + (str(index) if index else "")
        reason = why or f"it must be {allowed}"
        raise InvalidInput(f"{name} = {values[tuple(index)]!s}: {reason}", pointer=pointer, allowed=allowed)


def require_shape(field: str, array: Array, shape: tuple[int, ...], like: str) -> None:
    """InvalidInput unless `array` has `shape`, which the field `like` calls for."""
    if array.shape != shape:
        detail = f"{field} has shape {list(array.shape)}; the shape of {like} calls for {list(shape)}"
        raise InvalidInput(detail, pointer=f"/{field}", allowed=list(shape))


def require_vectors(field: str, array: Array) -> None:
    """InvalidInput unless `array` is (D,) or (B, D) and not empty."""
    if array.ndim not in (1, 2) or array.size == 0:
        detail = f"{field} has shape {list(array.shape)}; one vector (D,) or several (B, D) are needed, D and B ≥ 1"
        raise InvalidInput(detail, pointer=f"/{field}", allowed="shape (D,) or (B, D), not empty")
