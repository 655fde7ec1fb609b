"""The numbers of a problem's arrays: their type, their layout and their magnitude."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidInput
from .problem import MAX_COORDINATE

Float64 = NDArray[np.float64]


def float64(values: NDArray[Any], pointer: str) -> Float64:
    """`values` as contiguous, aligned, writable float64, copied only if necessary.

    A read-only array is copied too: its type differs, and the loops would be compiled again for it.
    """
    if values.dtype == np.float64 and values.flags.carray:
        return values
    if values.dtype.kind not in "biuf":
        raise InvalidInput(f"the values are {values.dtype}, not real numbers", pointer=pointer, allowed="real numbers")
    with np.errstate(over="ignore"):  # a number that overflows becomes infinite, and `check_range` reports it
        return np.array(values, np.float64, order="C")


def in_range(values: Float64) -> bool:
    """Whether all values are finite and of magnitude up to MAX_COORDINATE."""
    # A sum of squares within the bound leaves no number beyond it, and takes a third of the time of the maximum. NaN
    # compares false with all numbers, so both tests fail for it.
    return bool(np.vdot(values, values) <= MAX_COORDINATE or np.abs(values).max() <= MAX_COORDINATE)


def check_range(values: Float64, pointer: str) -> None:
    """Raise InvalidInput, with the first such value, unless all values are `in_range`."""
    if in_range(values):
        return
    index = np.argwhere(~(np.abs(values) <= MAX_COORDINATE))[0].tolist()
    value = values[tuple(index)].item()
    raise InvalidInput(
        f"the value at {index} is {value}; its square would overflow",
        pointer=pointer,
        allowed=f"finite numbers of magnitude up to {MAX_COORDINATE}",
    )
