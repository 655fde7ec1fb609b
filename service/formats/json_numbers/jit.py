"""Compilation of the reader of numbers, and the machine's instructions that Python has no word for.

All functions here are for compiled code. Rounding is as IEEE 754 defines it: none of the compiler's liberties are used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ...jit import FunctionT, compiler

_compile = compiler(Path(__file__).parent)
# Numba has no types, and the type of a decorated function lacks its first parameter.
_intrinsic: Callable[[Callable[..., Any]], Any] = intrinsic
_WORD, _WIDE = ir.IntType(64), ir.IntType(128)


def compiled(function: FunctionT) -> FunctionT:
    """`function` as machine code that runs without the interpreter's lock."""
    return _compile(cache=True)(function)


def always_inline(function: FunctionT) -> FunctionT:
    """`function` as machine code, inlined into its compiled callers."""
    return _compile(forceinline=True)(function)


@_intrinsic
def load_word(typing_context: Any, text: Any, index: Any) -> Any:
    """The 8 bytes of `text` from `index` on, as a uint64; the first byte is the lowest. They must exist."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.gep(array.data, [arguments[1]])
        word = builder.load(builder.bitcast(place, _WORD.as_pointer()), typ=_WORD)
        word.align = 1
        return word

    return types.uint64(text, types.int64), build


@_intrinsic
def byte_at(typing_context: Any, text: Any, index: Any) -> Any:
    """text[index], a uint8. The index must not be negative, so that no branch tests it."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load(builder.gep(array.data, [arguments[1]]), typ=ir.IntType(8))

    return types.uint8(text, types.int64), build


@_intrinsic
def high_product(typing_context: Any, a: Any, b: Any) -> Any:
    """The upper 64 bits of the product of two uint64."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = [builder.zext(argument, _WIDE) for argument in arguments]
        return builder.trunc(builder.lshr(builder.mul(*wide), ir.Constant(_WIDE, 64)), _WORD)

    return types.uint64(types.uint64, types.uint64), build


@_intrinsic
def leading_zeros(typing_context: Any, value: Any) -> Any:
    """The number of zero bits above the highest one of a uint64 that is not 0."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctlz(arguments[0], cgutils.true_bit)

    return types.uint64(types.uint64), build


@_intrinsic
def trailing_zeros(typing_context: Any, value: Any) -> Any:
    """The number of zero bits below the lowest one of a uint64; 64 for 0."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], cgutils.false_bit)

    return types.uint64(types.uint64), build


@_intrinsic
def as_float(typing_context: Any, bits: Any) -> Any:
    """The float64 with the given bits, a uint64."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.uint64), build
