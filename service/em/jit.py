"""Compilation of the loops that NumPy cannot express without an N x M array.

Compiled code is cached in the folder NUMBA_CACHE_DIR, by default beside the source.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_RELATIVE_IMPORT = re.compile(r"^from (\.+)([\w.]*) import (\([^)]*\)|.*)", re.MULTILINE)
_NAME = re.compile(r"\w+")


def compiled_sources(package: Path) -> list[Path]:
    """The files under `package` that compiled code depends on, sorted.

    These are the modules that import this one, and the modules of the package that they import, directly or not.
    """
    waiting = [path for path in package.rglob("*.py") if b"jit import" in path.read_bytes()]
    found = set(waiting)
    while waiting:
        path = waiting.pop()
        for dots, module, names in _RELATIVE_IMPORT.findall(path.read_text("utf-8")):
            base = path.parents[len(dots) - 1].joinpath(*module.split("."))
            paths = [base.with_suffix(".py"), *(base / f"{name}.py" for name in ("__init__", *_NAME.findall(names)))]
            new = {path for path in paths if path.is_file() and path.is_relative_to(package)} - found
            found |= new
            waiting += new
    return sorted(found)


def source_digest(package: Path) -> str:
    """16 hexadecimal digits that change whenever a file changes that compiled code under `package` depends on.

    A compiled function contains the functions it calls and the constants it reads, also those of other modules. Numba
    itself compares only the function's own file.
    """
    digest = hashlib.sha256()
    for path in compiled_sources(package):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _cache_directory() -> Path:
    package = Path(__file__).parent
    root = Path(os.environ.get("NUMBA_CACHE_DIR") or package / "__pycache__" / "compiled")
    return root / source_digest(package)


setattr(numba.config, "CACHE_DIR", str(_cache_directory()))  # noqa: B010  # numba.config has no types

# The compiler may reorder sums so that they vectorise; infinities and NaN keep their meaning. On one kind of processor
# every call gives the same result.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: FunctionT) -> FunctionT:
    """`function` as machine code that runs without the interpreter's lock. 1 / 0 is infinite."""
    decorated = numba.njit(nogil=True, cache=True, fastmath=_FAST, error_model="numpy")(function)
    return cast(FunctionT, decorated)


def always_inline(function: FunctionT) -> FunctionT:
    """`function` as machine code, inlined into its compiled callers.

    A call counts the references of its array arguments, which takes longer than a small loop.
    """
    decorated = numba.njit(forceinline=True, nogil=True, fastmath=_FAST, error_model="numpy")(function)
    return cast(FunctionT, decorated)


def ordered(function: FunctionT) -> FunctionT:
    """`function` as machine code, inlined into its compiled callers, with its sums in the written order.

    It is for arithmetic whose rounding errors depend on that order. Fused multiply-add is allowed.
    """
    decorated = numba.njit(forceinline=True, nogil=True, fastmath=_FAST - {"reassoc"}, error_model="numpy")(function)
    return cast(FunctionT, decorated)


def inlined(function: FunctionT) -> FunctionT:
    """`function`, copied into its compiled callers before they are compiled, so that their loops vectorise."""
    decorated = numba.njit(inline="always", fastmath=_FAST, error_model="numpy")(function)
    return cast(FunctionT, decorated)
