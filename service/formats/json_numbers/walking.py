"""A walk through a JSON text: its syntax, its size without arrays, and its arrays of numbers."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from . import grids
from .decimals import MAX_LENGTH, MINUS, PLUS, POINT, is_digit
from .grids import EVEN, KIND, NUMBER, PART_STOP, START, STOP, UNWANTED, read_grid
from .jit import always_inline, byte_at, compiled
from .keys import UNNAMED, Names, which
from .strings import after_string, are_equal
from .syntax import (
    AFTER_KEY,
    AFTER_VALUE,
    CLOSE,
    CLOSE_OBJECT,
    COLON,
    COMMA,
    KEY,
    KEY_OR_CLOSE,
    NOT_EXAMINED,
    NOT_JSON,
    OPEN,
    OPEN_OBJECT,
    QUOTE,
    VALUE,
    VALUE_OR_CLOSE,
    after_scalar,
    after_space,
)

Text = NDArray[np.uint8]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Arrays and objects within one another, and keys of one object. No schema comes near either.
MAX_DEPTH, MAX_KEYS_OF_ONE = 32, 64

# Characters of numbers besides digits.
_OF_NUMBERS = np.array([MINUS, PLUS, POINT, ord("e"), ord("E")], np.uint8)

# How a walk ended: at the end of the text, at a fault of its syntax, or at what is too deep, too long or too much.
COMPLETE, FAULT, TOO_DEEP, LONG_NUMBER, MANY_KEYS = range(5)

# A row of the stack for each array and object that is open: whether it is an object; the index in an array; the latest
# key of an object, and the place of its first key among all keys of open objects.
IS_OBJECT, POSITION, KEY_START, KEY_STOP, FIRST_KEY = range(5)
LEVEL = 5

# What a walk found: how it ended, where, how many levels were open, and what could come next there; up to where the
# reader of JSON has to read to find the fault.
END, PLACE, DEPTH, NEXT, REACH = range(5)
# Records, numbers of even arrays, and how many of those are undecided: NaN.
RECORDS, NUMBERS, UNDECIDED = 5, 6, 7
# Bytes of the text, objects and arrays, and keys, without those of the records' arrays.
BYTES, CONTAINERS, KEYS = 8, 9, 10
# The first key that occurs twice in its object, and the number of levels open there; 0 if no key occurs twice.
AGAIN_START, AGAIN_STOP, AGAIN_DEPTH = 11, 12, 13
# The member of the outermost object with the most text besides arrays: its key, and its bytes.
LARGEST_START, LARGEST_STOP, LARGEST_BYTES = 14, 15, 16
COLUMNS = 17
# After these come two stacks of MAX_DEPTH + 1 levels, the first of which is the text: where the walk ended, and where
# the first key was that occurs twice.
_STACK = (MAX_DEPTH + 1) * LEVEL
SIZE = COLUMNS + 2 * _STACK


def stacks(found: Int64) -> Int64:
    """The two stacks, (2, MAX_DEPTH + 1, LEVEL), of what a walk found. Levels that are not open have no meaning."""
    return found[COLUMNS:].reshape(2, -1, LEVEL)


@always_inline
def _after_digits(text: Text, start: int, end: int) -> int:
    """The position after the characters at `start` that occur in numbers."""
    index = start
    while index < end and (is_digit(byte_at(text, index)) or byte_at(text, index) in _OF_NUMBERS):
        index += 1
    return index


@always_inline
def _is_again(text: Text, keys: Int64, first: int, last: int) -> bool:
    """Whether the last of the keys is also among those before it, from the first one on."""
    for index in range(first, last):
        if are_equal(text, keys[last, 0], keys[last, 1], text, keys[index, 0], keys[index, 1]):
            return True
    return False


@compiled
def walk(
    text: Text,
    names: Names,
    root: int,
    least: int,
    numbers: Float64,
    records: Int64,
    found: Int64,
) -> None:
    """Walk through the text, up to the first fault of its syntax, or to the first part that is not allowed.

    Arrays of at least `least` bytes become rows of `records`, with the columns of `grids`, if they are values of keys,
    or the whole text. Those with a name in `names` are read into `numbers`. Arrays within them are no records.

    Args:
        text: the text.
        names: the keys with arrays.
        root: the index of the name of the whole text, or UNNAMED.
        least: the bytes of the shortest array that becomes a record.
        numbers: room for one number more than the text has commas.
        records: room for the records; further arrays count as other text.
        found: (SIZE,), receives what was found, and the stacks.
    """
    stack = found[COLUMNS : COLUMNS + _STACK].reshape(-1, LEVEL)
    again = found[COLUMNS + _STACK :].reshape(-1, LEVEL)
    end, index, depth, next_ = text.size, 0, 0, VALUE
    keys = np.empty((MAX_DEPTH * MAX_KEYS_OF_ONE, 2), np.int64)
    at = np.empty(grids.MAX_RANK, np.int64)
    found[:COLUMNS] = 0
    stack[0] = 0
    count, number, undecided = 0, 0, 0
    # The depth of the array that may become a record, 0 if none is open; the objects, arrays and keys within it; and
    # the depth of its part at fault, while the end of this part is not known.
    cut_depth, cut_containers, cut_keys, part_depth = 0, 0, 0, -1
    bytes_, begin, bytes_before = end, 0, end  # besides records; where a member of the outermost object begins
    while True:
        index = after_space(text, index, end)
        character = byte_at(text, index) if index < end else np.uint8(0)
        is_object = stack[depth, IS_OBJECT] == 1
        closes, is_value = False, False
        reach = index
        if next_ == AFTER_VALUE and depth == 0:
            found[END] = COMPLETE if index >= end else FAULT
            break
        found[END] = FAULT
        if index >= end:
            break
        if next_ == AFTER_VALUE:
            closes = character == (CLOSE_OBJECT if is_object else CLOSE)
            if not closes:
                if character != COMMA:
                    break
                stack[depth, POSITION] += 1
                next_ = KEY if is_object else VALUE
                index += 1
        elif next_ == AFTER_KEY:
            if character != COLON:
                break
            next_ = VALUE
            index += 1
        elif next_ in (KEY, KEY_OR_CLOSE):
            closes = character == CLOSE_OBJECT and next_ == KEY_OR_CLOSE
            if not closes:
                if character != QUOTE:
                    break
                stop, valid = after_string(text, index, end)
                if not valid:
                    reach = stop
                    break
                place = stack[depth, FIRST_KEY] + stack[depth, POSITION]
                stack[depth, KEY_START], stack[depth, KEY_STOP] = index + 1, stop - 1
                if stack[depth, POSITION] >= MAX_KEYS_OF_ONE:
                    found[END] = MANY_KEYS
                    break
                keys[place, 0], keys[place, 1] = index + 1, stop - 1
                if found[AGAIN_DEPTH] == 0 and _is_again(text, keys, stack[depth, FIRST_KEY], place):
                    found[AGAIN_START], found[AGAIN_STOP], found[AGAIN_DEPTH] = index + 1, stop - 1, depth
                    # Of slices, this would be compiled together with the text of its error, for 2.5 seconds.
                    for level in range(depth + 1):
                        for column in range(stack.shape[1]):
                            again[level, column] = stack[level, column]
                if cut_depth > 0:
                    cut_keys += 1
                else:
                    found[KEYS] += 1
                if depth == 1:
                    begin, bytes_before = index, bytes_
                index, next_ = stop, AFTER_KEY
        elif character == CLOSE and next_ == VALUE_OR_CLOSE:
            closes = True
        elif character in (OPEN, OPEN_OBJECT):
            is_cut = cut_depth == 0 and character == OPEN and (is_object or depth == 0) and count < len(records)
            is_cut = is_cut and depth + grids.MAX_RANK <= MAX_DEPTH
            name = root
            if is_cut and is_object:
                name = which(text, stack[depth, KEY_START], stack[depth, KEY_STOP], names)
            is_cut = is_cut and (name == UNNAMED or names.ranks[name, 1] > 0)
            if is_cut:
                record = records[count]
                record[KIND], record[START], record[NUMBER] = UNWANTED, index, number
                stop = NOT_EXAMINED if name != UNNAMED else NOT_JSON
                there, opened, could = index, 0, VALUE
                if name != UNNAMED:
                    ranks = (names.ranks[name, 0], names.ranks[name, 1])
                    range_ = (names.limits[name, 0], names.limits[name, 1], names.whole[name])
                    stop, there, opened, could = read_grid(text, index, end, ranks, range_, numbers, record, at)
                if stop >= 0:
                    if stop - index >= least:
                        bytes_ -= stop - index
                        count += 1
                        if record[KIND] == EVEN:
                            first = number
                            number += record[grids.SIZE] * record[grids.SIZE + 1] * record[grids.SIZE + 2]
                            for value in numbers[first:number]:
                                undecided += math.isnan(value)
                    else:  # it stays in the text
                        for place in range(index, stop):
                            found[CONTAINERS] += byte_at(text, place) == OPEN
                    index, next_, is_value = stop, AFTER_VALUE, True
                elif stop == NOT_JSON:
                    # The walk goes on where the reader of the array stopped.
                    cut_depth, cut_containers, cut_keys = depth + 1, 0, 0
                    part_depth = depth + opened if opened > 0 else -1
                    for level in range(opened):
                        depth += 1
                        stack[depth] = 0
                        stack[depth, POSITION] = at[level]
                    cut_containers += opened
                    index, next_ = there, could
                    if opened > 0:
                        continue
            if not is_value:
                if depth >= MAX_DEPTH:
                    found[END] = TOO_DEEP
                    break
                if cut_depth > 0:
                    cut_containers += 1
                else:
                    found[CONTAINERS] += 1
                depth += 1
                stack[depth] = 0
                stack[depth, FIRST_KEY] = (depth - 1) * MAX_KEYS_OF_ONE
                stack[depth, IS_OBJECT] = character == OPEN_OBJECT
                next_ = KEY_OR_CLOSE if character == OPEN_OBJECT else VALUE_OR_CLOSE
                index += 1
        elif character == QUOTE:
            stop, valid = after_string(text, index, end)
            if not valid:
                reach = stop
                break
            index, is_value = stop, True
        else:
            reach = _after_digits(text, index, end)
            if reach - index > MAX_LENGTH:
                found[END] = LONG_NUMBER
                break
            stop = after_scalar(text, index, end)
            if stop < 0:
                break
            index, is_value = stop, True

        if closes:
            depth -= 1
            index += 1
            is_value = True
            if cut_depth == depth + 1:
                record = records[count]
                record[STOP] = index
                if index - record[START] >= least:
                    bytes_ -= index - record[START]
                    count += 1
                else:
                    found[CONTAINERS] += cut_containers
                    found[KEYS] += cut_keys
                cut_depth = 0
        if is_value:
            next_ = AFTER_VALUE
            if depth == part_depth:
                records[count, PART_STOP] = index
                part_depth = -1
            if depth == 1 and index - begin - (bytes_before - bytes_) > found[LARGEST_BYTES]:
                found[LARGEST_BYTES] = index - begin - (bytes_before - bytes_)
                found[LARGEST_START], found[LARGEST_STOP] = stack[1, KEY_START], stack[1, KEY_STOP]
    found[PLACE], found[DEPTH], found[NEXT], found[REACH] = index, depth, next_, reach
    found[RECORDS], found[NUMBERS], found[UNDECIDED], found[BYTES] = count, number, undecided, bytes_
