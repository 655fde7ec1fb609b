"""One JSON array of numbers, of rows of numbers, or of matrices, into a buffer of float64."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .decimals import CASE, LOWER_E, MINUS, POINT, ZERO, is_digit, read_number
from .jit import always_inline, byte_at, compiled
from .syntax import (
    AFTER_VALUE,
    CLOSE,
    COMMA,
    NOT_EXAMINED,
    NOT_JSON,
    OPEN,
    VALUE,
    VALUE_OR_CLOSE,
    after_space,
)

Text = NDArray[np.uint8]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
# The least and the greatest number of an array, and whether all are integers.
Range = tuple[float, float, bool]

# Arrays within arrays of the highest rank that is wanted.
MAX_RANK = 3
# Kinds of arrays: even; with an element that is not a finite number, or a part that is not an array, or empty; with
# rows or matrices of different sizes; not wanted.
EVEN, WRONG, RAGGED_ROWS, RAGGED_MATRICES, UNWANTED = range(5)

# Columns of a record. Of all arrays:
KIND, START, STOP = range(3)
# of even, wrong and ragged ones: the first of their numbers, and their rank.
NUMBER, RANK = 3, 4
# Of even ones: their size along each axis, 1 beyond their rank.
SIZE = 5
# Of wrong ones: the indices of the part at fault, -1 after the last one, and where its text begins and stops.
AT, PART_START, PART_STOP = 5, 8, 9
# Of ragged ones: the index of the first row or matrix that differs, its size, and that of the first one.
INDEX, FOUND, EXPECTED = 5, 6, 8
COLUMNS = 10

# Whether a number is in range. It is unknown for one with many digits that is too near to a limit.
IN_RANGE, OUT_OF_RANGE, UNKNOWN = range(3)
# More than the relative error of `_approximately`, which rounds for each digit that it takes.
_ROUNDING = 1e-12
# `_approximately` takes no more digits once they are worth more than this.
_ENOUGH = 1e40


@always_inline
def _rank(text: Text, start: int, end: int) -> int:
    """How many arrays the first element is in: 0 for an empty array, more than MAX_RANK if it is more."""
    rank, index = 0, start
    while index < end and byte_at(text, index) == OPEN and rank <= MAX_RANK:
        rank += 1
        index = after_space(text, index + 1, end)
    return rank - 1 if index < end and byte_at(text, index) == CLOSE else rank


@always_inline
def _fits(text: Text, start: int, stop: int, value: float, range_: Range) -> int:
    """Whether the number in text[start:stop] is in range; `value` is what `read_number` returned for it."""
    least, most, is_whole = range_
    if is_whole:
        for index in range(start, stop):
            if not is_digit(byte_at(text, index)) and byte_at(text, index) != MINUS:
                return OUT_OF_RANGE
    if math.isnan(value):
        value = _approximately(text, start, stop)
        if min(abs(value - least), abs(value - most)) <= _ROUNDING * abs(value):
            return UNKNOWN
    return IN_RANGE if least <= value <= most else OUT_OF_RANGE


@always_inline
def _approximately(text: Text, start: int, stop: int) -> float:
    """The number in text[start:stop], with errors of rounding."""
    value, power, sign, index = 0.0, 0, 1, start
    after_point = False
    while index < stop and byte_at(text, index) | CASE != LOWER_E:
        if is_digit(byte_at(text, index)):
            if value < _ENOUGH:
                value = value * 10 + (np.int64(byte_at(text, index)) - ZERO)
                power -= after_point
            else:
                power += not after_point
        after_point |= byte_at(text, index) == POINT
        index += 1
    exponent = 0
    for place in range(index + 1, stop):
        if byte_at(text, place) == MINUS:
            sign = -1
        elif is_digit(byte_at(text, place)):
            exponent = exponent * 10 + int(byte_at(text, place)) - ZERO
    magnitude = value * 10.0 ** (power + sign * exponent)
    return -magnitude if byte_at(text, start) == MINUS else magnitude


@always_inline
def _wrong(record: Int64, at: Int64, depth: int, part: int) -> None:
    """Note that an array is wrong at the part at `part`, whose first `depth` indices are `at`."""
    record[KIND], record[PART_START] = WRONG, part
    for level in range(MAX_RANK):
        record[AT + level] = at[level] if level < depth else -1


@compiled
def read_grid(
    text: Text, start: int, end: int, ranks: tuple[int, int], range_: Range, numbers: Float64, record: Int64, at: Int64
) -> tuple[int, int, int, int]:
    """Read the array at `start`, whose rank must be in `ranks`, the least and the greatest.

    `range_` has the least and the greatest number, and whether all must be written as integers.

    Writes its numbers into `numbers`, from `record[NUMBER]` on, and the other columns of `record`. The reader stops at
    the first part at fault, in the order of the text; the sizes are compared only if all parts are right.

    Returns:
        The position after the array, and three numbers without a meaning. Or NOT_EXAMINED, for an array that another
        reader decides. Or NOT_JSON, where the reader stopped, how many arrays are open there, and what may come next;
        `at` then has the indices there, and `record` is that of an array that is wrong there, without `PART_STOP`.
    """
    rank = _rank(text, start, end)
    if rank == 0 or ranks[1] < 1:
        return NOT_EXAMINED, 0, 0, 0
    rank = min(max(rank, ranks[0]), ranks[1])
    record[START], record[RANK] = start, rank
    number, index, depth = record[NUMBER], start + 1, 1
    outer, inner, width = 0, 0, 0  # indices in the outermost array, and in the matrix of a stack; numbers in a row
    height, breadth = 0, 0  # of the first matrix of a stack
    kind = EVEN
    is_limited = range_[0] > -math.inf or range_[1] < math.inf or range_[2]
    next_ = VALUE_OR_CLOSE
    while True:
        index = after_space(text, index, end)
        if depth < rank:
            first = after_space(text, index + 1, end)
            if index >= end or byte_at(text, index) != OPEN or first >= end or byte_at(text, first) == CLOSE:
                at[0], at[1] = outer, inner
                _wrong(record, at, depth, index)
                return NOT_JSON, index, depth, next_
            index = first
            depth += 1
            next_ = VALUE_OR_CLOSE
            if depth < rank:
                inner = 0
            continue

        begin = number
        closed = False
        while not closed:
            stop, value = NOT_JSON, 0.0
            if index < end:
                stop, value = read_number(text, index, end)
            fits = IN_RANGE
            if is_limited and stop >= 0:
                fits = _fits(text, index, stop, value, range_)
            if fits == UNKNOWN or number >= numbers.size:
                return NOT_EXAMINED, 0, 0, 0
            if stop < 0 or math.isinf(value) or fits == OUT_OF_RANGE:
                at[0], at[1] = outer, inner
                at[rank - 1] = number - begin
                _wrong(record, at, rank, index)
                return NOT_JSON, index, rank, next_
            numbers[number] = value
            number += 1
            index = after_space(text, stop, end)
            if index >= end or (byte_at(text, index) != COMMA and byte_at(text, index) != CLOSE):
                return NOT_JSON, index, rank, AFTER_VALUE
            closed = byte_at(text, index) == CLOSE
            next_ = VALUE
            index += 1
            if not closed:
                index = after_space(text, index, end)

        size = number - begin
        row = inner if rank == 3 else outer
        if row == 0:
            width = size
        elif size != width and kind != RAGGED_ROWS:
            kind = RAGGED_ROWS
            record[INDEX], record[FOUND], record[EXPECTED] = row, size, width
        depth -= 1
        while closed and depth > 0:
            if depth == 1:
                outer += 1
            else:
                inner += 1
            index = after_space(text, index, end)
            if index >= end or (byte_at(text, index) != COMMA and byte_at(text, index) != CLOSE):
                return NOT_JSON, index, depth, AFTER_VALUE
            closed = byte_at(text, index) == CLOSE
            index += 1
            if closed and depth == 2:
                if outer == 0:
                    height, breadth = inner, width
                elif kind == EVEN and (inner != height or width != breadth):
                    kind = RAGGED_MATRICES
                    record[INDEX], record[FOUND], record[FOUND + 1] = outer, inner, width
                    record[EXPECTED], record[EXPECTED + 1] = height, breadth
            depth -= closed
        if depth == 0:
            break
    record[KIND], record[STOP] = kind, index
    if kind == EVEN:
        record[SIZE : SIZE + 3] = 1
        record[SIZE + rank - 1] = width
        if rank == 2:
            record[SIZE] = outer
        elif rank == 3:
            record[SIZE], record[SIZE + 1] = outer, height
    return index, 0, 0, 0
