"""Compilation of the loops that NumPy cannot express without an N x M array."""

from __future__ import annotations

from pathlib import Path

from ..jit import FunctionT, compiler

_compile = compiler(Path(__file__).parent)
# The compiler may reorder sums so that they vectorise; infinities and NaN keep their meaning. On one kind of processor
# every call gives the same result.
_FAST = {"reassoc", "contract", "nsz", "arcp"}


def compiled(function: FunctionT) -> FunctionT:
    """`function` as machine code that runs without the interpreter's lock. 1 / 0 is infinite."""
    return _compile(cache=True, fastmath=_FAST)(function)


def always_inline(function: FunctionT) -> FunctionT:
    """`function` as machine code, inlined into its compiled callers.

    A call counts the references of its array arguments, which takes longer than a small loop.
    """
    return _compile(forceinline=True, fastmath=_FAST)(function)


def ordered(function: FunctionT) -> FunctionT:
    """`function` as machine code, inlined into its compiled callers, with its sums in the written order.

    It is for arithmetic whose rounding errors depend on that order. Fused multiply-add is allowed.
    """
    return _compile(forceinline=True, fastmath=_FAST - {"reassoc"})(function)


def inlined(function: FunctionT) -> FunctionT:
    """`function`, copied into its compiled callers before they are compiled, so that their loops vectorise."""
    return _compile(inline="always", fastmath=_FAST)(function)
