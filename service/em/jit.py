"""Compilation of the loops that NumPy and torch cannot express without an N x M array.

The code is kept where NUMBA_CACHE_DIR says, or else beside the source.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def _cache_directory() -> Path:
    """Where the code is kept that these very files are compiled to.

    Left to itself, Numba looks whether a function's own file has changed, and not whether a file has that it takes
    other functions from.
    """
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        source = path.read_bytes()
        if b"jit import" in source or path == Path(__file__):
            digest.update(source)
    return Path(os.environ.get("NUMBA_CACHE_DIR") or package / "__pycache__" / "compiled") / digest.hexdigest()[:16]


setattr(numba.config, "CACHE_DIR", str(_cache_directory()))  # noqa: B010, which type checkers do not know of

# Sums may be reordered, once, at compile time, so that they vectorise; infinities and NaN keep their meaning. The
# result is the same at every call on one kind of processor.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: FunctionT) -> FunctionT:
    """`function` as machine code that runs without the interpreter's lock, where 1 / 0 is infinite."""
    decorated = numba.njit(nogil=True, cache=True, fastmath=_FAST, error_model="numpy")(function)
    return cast(FunctionT, decorated)


def always_inline(function: FunctionT) -> FunctionT:
    """`function` as machine code within whatever compiled loop calls it.

    A call that stays one counts the references of all arrays that it is given, which takes longer than a small loop.
    """
    decorated = numba.njit(forceinline=True, nogil=True, fastmath=_FAST, error_model="numpy")(function)
    return cast(FunctionT, decorated)


def ordered(function: FunctionT) -> FunctionT:
    """`function` as machine code within its compiled caller, with its sums in the order in which they are written.

    For arithmetic in which that order keeps rounding errors small. Fused multiply-add stays allowed.
    """
    decorated = numba.njit(forceinline=True, nogil=True, fastmath=_FAST - {"reassoc"}, error_model="numpy")(function)
    return cast(FunctionT, decorated)


def inlined(function: FunctionT) -> FunctionT:
    """`function` copied into whatever compiled loop calls it, so that the loop vectorises."""
    decorated = numba.njit(inline="always", fastmath=_FAST, error_model="numpy")(function)
    return cast(FunctionT, decorated)
