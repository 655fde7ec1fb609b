"""Strings of JSON text: their syntax, and whether two are equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .jit import always_inline, byte_at, compiled
from .syntax import BACKSLASH, QUOTE, SPACE

Text = NDArray[np.uint8]

_ASCII = 0x80
_LETTER_U = ord("u")
_ESCAPES = np.frombuffer(b'"\\/bfnrt', np.uint8)
_ESCAPED = np.frombuffer(b'"\\/\b\f\n\r\t', np.uint8)
# The two halves of a character beyond 16 bits, as UTF-16 writes it.
_HIGH, _LOW, _END_OF_LOW = 0xD800, 0xDC00, 0xE000
_BEYOND, _HALF_BITS = 0x10000, 10
# The least and the greatest character of 2, 3 and 4 bytes of UTF-8.
_LEAST = np.array([0x80, 0x800, 0x10000])
_MOST = 0x10FFFF
# The code of a byte that is not a hexadecimal digit, or not the character of an escape.
_NONE = -1


@always_inline
def _hex(text: Text, index: int, end: int) -> int:
    """The number that four hexadecimal digits at `index` write, or _NONE."""
    if index + 4 > end:
        return _NONE
    value = 0
    for place in range(index, index + 4):
        character = int(byte_at(text, place))
        if 48 <= character <= 57:
            digit = character - 48
        elif 65 <= character & ~32 <= 70:
            digit = (character & ~32) - 55
        else:
            return _NONE
        value = value * 16 + digit
    return value


@always_inline
def _escape(text: Text, index: int, end: int) -> tuple[int, int]:
    """The character of the escape after a backslash at `index - 1`, or _NONE; and the position after it."""
    if index >= end:
        return _NONE, index
    character = byte_at(text, index)
    if character != _LETTER_U:
        for place in range(_ESCAPES.size):
            if _ESCAPES[place] == character:
                return int(_ESCAPED[place]), index + 1
        return _NONE, index
    point = _hex(text, index + 1, end)
    index += 5
    if point < _HIGH or point >= _END_OF_LOW:
        return point, index
    if point >= _LOW or index + 6 > end or byte_at(text, index) != BACKSLASH or byte_at(text, index + 1) != _LETTER_U:
        return _NONE, index
    low = _hex(text, index + 2, end)
    if low < _LOW or low >= _END_OF_LOW:
        return _NONE, index
    return _BEYOND + ((point - _HIGH) << _HALF_BITS) + (low - _LOW), index + 6


@always_inline
def _unicode(text: Text, index: int, end: int) -> tuple[int, int]:
    """The character that two to four bytes of UTF-8 at `index` encode, and the position after it; or _NONE."""
    first = int(byte_at(text, index))
    more = 1 if first & 0xE0 == 0xC0 else 2 if first & 0xF0 == 0xE0 else 3 if first & 0xF8 == 0xF0 else 0
    if more == 0 or index + more >= end:
        return _NONE, index + 1
    point = first & (0x3F >> more)
    for place in range(index + 1, index + 1 + more):
        byte = int(byte_at(text, place))
        if byte & 0xC0 != 0x80:
            return _NONE, index + 1
        point = point << 6 | byte & 0x3F
    if point < _LEAST[more - 1] or point > _MOST or _HIGH <= point < _END_OF_LOW:
        return _NONE, index + 1
    return point, index + 1 + more


@compiled
def after_string(text: Text, start: int, end: int) -> tuple[int, bool]:
    """The position after the string at `start`, and whether it is valid.

    If it is not valid, the position is that of the fault, or the one after the string if only its UTF-8 is at fault.
    """
    valid = True
    index = start + 1
    while index < end:
        character = byte_at(text, index)
        if character == QUOTE:
            return index + 1, valid
        if character == BACKSLASH:
            point, after = _escape(text, index + 1, end)
            if point == _NONE:
                return index, False
            index = after
        elif character < SPACE:
            return index, False
        elif character < _ASCII:
            index += 1
        else:
            point, index = _unicode(text, index, end)
            valid = valid and point != _NONE
    return end, False


@always_inline
def _next(text: Text, index: int, end: int) -> tuple[int, int]:
    """The character at `index` of a valid string, and the position after it."""
    character = byte_at(text, index)
    if character == BACKSLASH:
        return _escape(text, index + 1, end)
    return _unicode(text, index, end) if character >= _ASCII else (int(character), index + 1)


@always_inline
def are_equal(text: Text, start: int, stop: int, other: Text, begin: int, end: int) -> bool:
    """Whether the strings in text[start:stop] and other[begin:end], which are valid, have the same characters."""
    while start < stop and begin < end:
        first, start = _next(text, start, stop)
        second, begin = _next(other, begin, end)
        if first != second:
            return False
    return start == stop and begin == end
