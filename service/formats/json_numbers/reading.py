"""The long arrays of a JSON text, as ndarrays or with their faults."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import grids, walking
from .decimals import POSITION_BITS
from .keys import UNNAMED, Names, count_bytes, names
from .refusals import MAX_KEYS, Text, as_bytes, refuse
from .syntax import COMMA
from .walking import walk

Float64 = NDArray[np.float64]

# Arrays with a shorter text are quickly read by any reader. In a large text there may be thousands of them, which would
# take that reader ten milliseconds or more in one call.
LEAST_BYTES, LEAST_BYTES_IN_LARGE = 512, 64
LARGE_BYTES = 1 << 17
# The numbers of a shorter text are not counted before they are read. The count gives up the interpreter's lock, for
# which the event loop then waits beside a busy worker: far longer than either takes.
UNCOUNTED_BYTES = 1 << 14
# Records that become objects, and numbers that Python reads, before others can take the interpreter's lock.
_BLOCK = 1 << 10
_NUMBER = re.compile(rb"[-+.eE0-9]+")


class Even(NamedTuple):
    """An array of finite numbers, (n,), (n, m) or (n, m, k), and its text."""

    start: int
    stop: int
    numbers: Float64


class Wrong(NamedTuple):
    """An array of wanted rank `rank` whose part at the indices `at` is no finite number, or no array, or empty."""

    start: int
    stop: int
    rank: int
    at: tuple[int, ...]
    part: slice


class Ragged(NamedTuple):
    """An array whose row, or whose matrix of a stack, number `place` differs in size from the first one.

    The sizes are one number for rows, and rows x columns for matrices.
    """

    start: int
    stop: int
    place: int
    found: tuple[int, ...]
    expected: tuple[int, ...]


class Unwanted(NamedTuple):
    """An array under a key of another name, or as the whole text."""

    start: int
    stop: int


Found = Even | Wrong | Ragged | Unwanted


class _State:
    """Whether the compiled code is there."""

    ready = False


def is_ready() -> bool:
    """Whether the compiled code is there, so that a call does not wait for the compiler."""
    return _State.ready


def warm_up() -> None:
    """Compile the reader, or load it from the cache: seconds or tenths of a second."""
    find(b'{"a":[1,2]}', names({"a": (1, 1)}))
    _State.ready = True


def count(text: Text, character: bytes) -> int:
    """How often a character occurs, counted without the interpreter's lock once the compiled code is there."""
    if not _State.ready:
        return bytes(text).count(character)
    return int(count_bytes(as_bytes(text), character[0]))


def find(text: Text, wanted: Names, root: int = UNNAMED) -> list[Found]:
    """The long arrays that are values of keys, or the whole text, in order. All of the text is valid JSON.

    They have at least LEAST_BYTES of text; in a text of more than LARGE_BYTES, at least LEAST_BYTES_IN_LARGE. Those
    whose key is in `wanted` are read, and so is the whole text if its name has the index `root` there. Their memory is
    shared. The other text is short, so that any reader of JSON takes milliseconds for it. The walk takes about 25 ns
    a number, without the interpreter's lock.

    Raises:
        MalformedBody: the text is not JSON, an object has a key twice, or arrays and objects are nested too deep.
        BodyTooLarge: an object has too many keys, a number too many digits, or there is too much text besides arrays.
    """
    array = as_bytes(text)
    least = LEAST_BYTES if len(text) <= LARGE_BYTES else LEAST_BYTES_IN_LARGE
    # Every number but the first one follows a comma, or else the text is not JSON.
    commas = len(text) // 2 if len(text) <= UNCOUNTED_BYTES else int(count_bytes(array, COMMA))
    numbers = np.empty(commas + 1)
    records = np.empty((min(len(text) // least + 2, MAX_KEYS), grids.COLUMNS), np.int64)
    walked = np.empty(walking.SIZE, np.int64)
    walk(array, wanted, root, least, numbers, records, walked)
    count, number, undecided = refuse(text, walked)
    numbers = numbers[:number]
    if undecided:
        all_places = np.flatnonzero(np.isnan(numbers))
        for start in range(0, undecided, _BLOCK):
            places = all_places[start : start + _BLOCK]
            positions = numbers.view(np.uint64)[places] & np.uint64(2**POSITION_BITS - 1)
            numbers[places] = [_value(text, position) for position in positions.tolist()]
    found: list[Found] = []
    for start in range(0, count, _BLOCK):
        block = records[start : min(start + _BLOCK, count)]
        found += [_found(record, numbers) for record in block.tolist()]
    return found


def _value(text: Text, position: int) -> float:
    match = _NUMBER.match(text, position)
    if match is None:
        raise RuntimeError("a number is not where it was found")
    return float(match[0])


def _found(record: list[int], numbers: Float64) -> Found:
    kind, start, stop, first, rank, rows, columns, depth, _, _ = record
    if kind == grids.EVEN:
        shape = record[grids.SIZE : grids.SIZE + rank]
        return Even(start, stop, numbers[first : first + rows * columns * depth].reshape(shape))
    match kind:
        case grids.WRONG:
            at = tuple(index for index in record[grids.AT : grids.AT + 3] if index >= 0)
            return Wrong(start, stop, rank, at, slice(record[grids.PART_START], record[grids.PART_STOP]))
        case grids.RAGGED_ROWS:
            return Ragged(start, stop, record[grids.INDEX], (record[grids.FOUND],), (record[grids.EXPECTED],))
        case grids.RAGGED_MATRICES:
            found, expected = (tuple(record[first : first + 2]) for first in (grids.FOUND, grids.EXPECTED))
            return Ragged(start, stop, record[grids.INDEX], found, expected)
        case _:
            return Unwanted(start, stop)
