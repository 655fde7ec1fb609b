"""Compilation of the loops that NumPy and torch cannot express without an N x M array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

# Sums may be reordered, once, at compile time, so that they vectorise; infinities and NaN keep their meaning. The
# result is the same at every call on one kind of processor.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: FunctionT) -> FunctionT:
    """`function` as machine code that runs without the interpreter's lock.

    The code is cached beside the source, or where NUMBA_CACHE_DIR says. Division by zero gives what IEEE 754 says.
    """
    decorated = numba.njit(nogil=True, cache=True, fastmath=_FAST, error_model="numpy")(function)
    return cast(FunctionT, decorated)


def inlined(function: FunctionT) -> FunctionT:
    """`function` copied into whatever compiled loop calls it, so that the loop vectorises."""
    decorated = numba.njit(inline="always", fastmath=_FAST, error_model="numpy")(function)
    return cast(FunctionT, decorated)
