"""The characters of JSON, and its white space and words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .decimals import BROKEN, MINUS, TOO_LONG, is_digit, read_number
from .jit import always_inline, byte_at

Text = NDArray[np.uint8]

# What a function here found at a position, instead of a value: text that is no JSON, or a number that is too long.
NOT_JSON, NOT_EXAMINED = BROKEN, TOO_LONG

OPEN, CLOSE, COMMA, COLON, QUOTE, BACKSLASH, OPEN_OBJECT, CLOSE_OBJECT = (ord(character) for character in '[],:"\\{}')
SPACE, TAB, NEWLINE, RETURN = (ord(character) for character in " \t\n\r")
# What may come next: a value; a value or the end of an array; a key; a key or the end of an object; a colon; a comma or
# the end of an array, an object or the text.
VALUE, VALUE_OR_CLOSE, KEY, KEY_OR_CLOSE, AFTER_KEY, AFTER_VALUE = range(6)
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
def after_scalar(text: Text, start: int, end: int) -> int:
    """The position after the number or the word at `start`, or NOT_JSON, or NOT_EXAMINED for a long number."""
    character = byte_at(text, start)
    if is_digit(character) or character == MINUS:
        index, _ = read_number(text, start, end)
        if index != BROKEN or character != MINUS:
            return index
    return _after_word(text, start, end)
