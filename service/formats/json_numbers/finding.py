"""The long arrays of a JSON text that are values of keys, with the numbers of those that are wanted."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import grids
from .grids import KIND, NUMBER, START, STOP, read_grid
from .jit import always_inline, compiled
from .syntax import (
    CLOSE,
    CLOSE_OBJECT,
    COLON,
    NOT_EXAMINED,
    NOT_JSON,
    OPEN,
    OPEN_OBJECT,
    QUOTE,
    after_space,
    after_string,
    pass_over,
)

Text = NDArray[np.uint8]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# Arrays in more objects and arrays than this are not taken out, so that limits of other readers apply.
_MAX_DEPTH = 100


class Names(NamedTuple):
    """Keys with arrays as values: their names, one after the other, where each one stops, its ranks and its numbers.

    The ranks are the least and the greatest one. They are (0, 0) for arrays that stay in the text. The numbers have a
    least and a greatest one, and may have to be integers.
    """

    letters: Text
    stops: Int64
    ranks: Int64
    limits: Float64  # (k, 2)
    whole: NDArray[np.bool_]


def names(
    ranks: Mapping[str, tuple[int, int]], kept: Collection[str] = (), ranges: Mapping[str, grids.Range] | None = None
) -> Names:
    """The keys whose arrays are read, with the least and the greatest rank of their arrays, and keys that are kept.

    `ranges` are those of the numbers of some keys; others have any finite numbers.
    """
    all_ranks = dict(ranks) | dict.fromkeys(kept, (0, 0))
    encoded = [name.encode() for name in all_ranks]
    found = [(ranges or {}).get(name, (-np.inf, np.inf, False)) for name in all_ranks]
    return Names(
        np.frombuffer(b"".join(encoded), np.uint8),
        np.cumsum([len(name) for name in encoded]),
        np.array([*all_ranks.values()], np.int64).reshape(-1, 2),
        np.array([limits for *limits, _ in found], np.float64).reshape(-1, 2),
        np.array([is_whole for *_, is_whole in found], np.bool_),
    )


@always_inline
def _which(text: Text, start: int, stop: int, names: Names) -> int:
    """The index of the name that the text is, or -1."""
    begin = 0
    for index in range(names.stops.size):
        same = names.stops[index] - begin == stop - start
        for offset in range(stop - start):
            if not same:
                break
            same = names.letters[begin + offset] == text[start + offset]
        if same:
            return index
        begin = names.stops[index]
    return -1


@compiled
def find_arrays(text: Text, names: Names, least: int, numbers: Float64, records: Int64) -> tuple[int, int, int]:
    """Find the arrays of at least `least` bytes that are values of keys, up to the first fault of their syntax.

    Each becomes a row of `records` with the columns of `grids`; those with a name in `names` are read into `numbers`.
    Text outside of these arrays is not checked.

    Returns the number of records, the number of numbers of even arrays, and how many of them are undecided: NaN.
    """
    end, index, depth, count, number, undecided = text.size, 0, 0, 0, 0, 0
    while index < end and count < len(records):
        character = text[index]
        if character in (OPEN, OPEN_OBJECT):
            depth += 1
        elif character in (CLOSE, CLOSE_OBJECT):
            depth -= 1
        if character != QUOTE:
            index += 1
            continue
        start = index + 1
        index, plain = after_string(text, index, end)
        colon = after_space(text, index, end)
        if not plain or depth > _MAX_DEPTH or colon >= end or text[colon] != COLON:
            continue
        which = _which(text, start, index - 1, names)
        value = after_space(text, colon + 1, end)
        index = colon + 1
        if value >= end or text[value] != OPEN or (which >= 0 and names.ranks[which, 1] == 0):
            continue
        record = records[count]
        record[NUMBER] = number
        if which >= 0:
            ranks = (names.ranks[which, 0], names.ranks[which, 1])
            range_ = (names.limits[which, 0], names.limits[which, 1], names.whole[which])
            stop = read_grid(text, value, end, ranks, range_, numbers, record)
        else:
            stop, fault, restart, restart_depth = pass_over(text, value, end, 0, False)
            record[KIND] = grids.UNWANTED
            if stop == NOT_JSON:
                record[KIND] = grids.BROKEN
                record[grids.RESTART], record[grids.DEPTH], record[grids.FAULT] = restart, restart_depth, fault
        if stop == NOT_EXAMINED:
            continue
        record[START], record[STOP] = value, stop
        if stop == NOT_JSON:
            return count + 1, number, undecided
        index = stop
        if stop - value >= least:
            count += 1
            if record[KIND] == grids.EVEN:
                first = number
                number += record[grids.SIZE] * record[grids.SIZE + 1] * record[grids.SIZE + 2]
                for value in numbers[first:number]:
                    undecided += math.isnan(value)
    return count, number, undecided


@compiled
def count_bytes(text: Text, character: int) -> int:
    """How often a byte occurs."""
    count = 0
    for byte in text:
        count += byte == character
    return count
