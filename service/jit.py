"""Compilation of loops to machine code, and the folders that cache it.

Compiled code is cached below the folder NUMBA_CACHE_DIR, by default beside the source.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_RELATIVE_IMPORT = re.compile(r"^from (\.+)([\w.]*) import (\([^)]*\)|.*)", re.MULTILINE)
_NAME = re.compile(r"\w+")


def compiled_sources(package: Path) -> list[Path]:
    """The files under `package` that compiled code depends on, sorted.

    These are the modules that import from a module `jit`, and the modules of the package that they import, directly or
    not.
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
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in compiled_sources(package):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def compiler(package: Path) -> Callable[..., Callable[[FunctionT], FunctionT]]:
    """`numba.njit` for the loops under the folder `package`, with their own folder of the cache.

    Compiled functions release the interpreter's lock, and 1 / 0 is infinite. Further options are those of `numba.njit`.
    """
    root = Path(os.environ.get("NUMBA_CACHE_DIR") or package / "__pycache__" / "compiled")
    folder = str(root / source_digest(package))

    def options(**given: Any) -> Callable[[FunctionT], FunctionT]:
        def decorate(function: FunctionT) -> FunctionT:
            # Numba reads the folder when it decorates a function. numba.config has no types.
            setattr(numba.config, "CACHE_DIR", folder)  # noqa: B010
            decorated: FunctionT = numba.njit(nogil=True, error_model="numpy", **given)(function)
            return decorated

        return decorate

    return options
