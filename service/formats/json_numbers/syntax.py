"""Values of JSON text that are passed over, with a check of their syntax."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .decimals import BROKEN, MINUS, TOO_LONG, is_digit, read_number
from .jit import always_inline, byte_at, compiled

Text = NDArray[np.uint8]

# Arrays within arrays that are followed; deeper ones are left to other readers.
MAX_DEPTH = 64
# What a function here found at a position, instead of a value: text that is no JSON, or text that it does not examine.
NOT_JSON, NOT_EXAMINED = BROKEN, TOO_LONG

OPEN, CLOSE, COMMA, COLON, QUOTE, BACKSLASH, OPEN_OBJECT, CLOSE_OBJECT = (ord(character) for character in '[],:"\\{}')
SPACE, TAB, NEWLINE, RETURN = (ord(character) for character in " \t\n\r")
_DELETE = 0x7F
# Words that the JSON parser of the schemas accepts as values. The last three are not finite numbers.
_WORDS = np.zeros((6, 9), np.uint8)
for _row, _word in zip(_WORDS, (b"true", b"false", b"null", b"NaN", b"Infinity", b"-Infinity"), strict=True):
    _row[: len(_word)] = np.frombuffer(_word, np.uint8)


@always_inline
def after_space(text: Text, index: int, end: int) -> int:
    """The position of the next byte that is no white space, from `index` on, or `end`."""
    while index < end and byte_at(text, index) <= SPACE and byte_at(text, index) in (SPACE, NEWLINE, RETURN, TAB):
        index += 1
    return index


@always_inline
def after_string(text: Text, start: int, end: int) -> tuple[int, bool]:
    """The position after the string at `start`, or `end`; and whether all its characters are printable ASCII."""
    plain = True
    index = start + 1
    while index < end and byte_at(text, index) != QUOTE:
        character = byte_at(text, index)
        plain &= SPACE <= character < _DELETE and character != BACKSLASH
        index += 2 if character == BACKSLASH else 1
    return min(index + 1, end), plain and index < end


@always_inline
def _after_word(text: Text, start: int, end: int) -> int:
    for word in _WORDS:
        length = 0
        while length < word.size and word[length] != 0:
            length += 1
        same = start + length <= end
        for offset in range(length):
            same = same and byte_at(text, start + offset) == word[offset]
        if same:
            return start + length
    return NOT_JSON


@always_inline
def _after_scalar(text: Text, start: int, end: int) -> int:
    character = byte_at(text, start)
    if character == QUOTE:
        index, plain = after_string(text, start, end)
        return index if plain else NOT_EXAMINED
    if is_digit(character) or character == MINUS:
        index, _ = read_number(text, start, end)
        if index != BROKEN or character != MINUS:
            return index
    return NOT_EXAMINED if character == OPEN_OBJECT else _after_word(text, start, end)


@compiled
def pass_over(text: Text, start: int, end: int, depth: int, after: bool) -> tuple[int, int, int, int]:
    """Pass over the rest of `depth` open arrays, or over one value if `depth` is 0.

    `start` is where a value is expected, or with `after` the position after one.

    Returns:
        The position after it, NOT_JSON, or NOT_EXAMINED for objects, deep arrays, long numbers and unusual strings.
        If NOT_JSON: the position at fault; and where the last scalar before it begins, with its depth. Without
        such a scalar: `start` and `depth`.
    """
    index, last, last_depth = start, start, depth
    while True:
        if not after:
            index = after_space(text, index, end)
            if index >= end:
                return NOT_JSON, index, last, last_depth
            if byte_at(text, index) == OPEN:
                depth += 1
                if depth > MAX_DEPTH:
                    return NOT_EXAMINED, index, last, last_depth
                index = after_space(text, index + 1, end)
                if index >= end or byte_at(text, index) != CLOSE:
                    continue
                index += 1
                depth -= 1
            else:
                stop = _after_scalar(text, index, end)
                if stop < 0:
                    return stop, index, last, last_depth
                last, last_depth = index, depth
                index = stop
        if depth == 0:
            return index, index, last, last_depth
        index = after_space(text, index, end)
        if index >= end:
            return NOT_JSON, index, last, last_depth
        after = byte_at(text, index) == CLOSE
        if after:
            depth -= 1
        elif byte_at(text, index) != COMMA:
            return NOT_JSON, index, last, last_depth
        index += 1
