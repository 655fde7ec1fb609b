"""JSON text without its long arrays, which are inserted once the rest is parsed."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import from_json

from ..formats.arrays import UNION_TAG, RaggedArray, ragged_matrices, ragged_rows
from ..formats.json_numbers.reading import Broken, Even, Found, Ragged, Text, Unwanted, Wrong, count

# A string in the place of an array, before its number. Callers cannot know it, so that no body contains it.
_MARK = f"array-{secrets.token_hex(16)}-"
# Bytes after a fault of the syntax, which the JSON parser may read before it reports the fault.
_AHEAD = 64
# Arrays at fault with a longer text are not parsed: errors do not show them.
_LONGEST_PART = 4096
# Bytes that are searched at once.
_BLOCK = 1 << 20
_EMPTY = re.compile(rb"\[[ \t\r\n]*+\]")
_POSITION = re.compile(r" at line (\d+) column (\d+)$")
# A part of a body that is replaced: where it begins, the text in its place, and where it stops.
_Cut = tuple[int, bytes, int]


class Reduction(NamedTuple):
    """A text without its long arrays."""

    text: bytes
    cuts: Sequence[_Cut]
    values: Mapping[str, Any]
    """The arrays, or what stands for arrays with faults, by the strings in their places; see `insert`."""
    wrong: Mapping[str, Wrong]
    is_cut: bool
    """Whether the text ends shortly after a fault of the syntax."""

    def message(self, message: str, body: Text) -> str | None:
        """The JSON parser's message about the text, for `body`; None if the fault may be elsewhere in `body`."""
        found = _POSITION.search(message)
        if found is None:
            return None
        index = _index(self.text, int(found[1]), int(found[2]))
        if self.is_cut and index >= len(self.text) - 1:
            return None
        offset = 0  # of a position in the body from the same position in the text
        for start, by, stop in self.cuts:
            if index + offset < start:
                break
            offset += stop - start - len(by)
            if index + offset < stop:
                return None
        line, column = _line_and_column(body, index + offset)
        return f"{message[: found.start()]} at line {line} column {column}"

    def insert(self, tree: Any) -> Insertion:
        """Insert the values into `tree`, the parsed text, in place.

        An array that is wrong at one part is a short list with that part. A ragged one is a `RaggedArray`. The schema
        finds the same errors in them as in the body, once they are corrected.
        """
        keys = 0
        places: dict[tuple[str | int, ...], tuple[int, ...]] = {}
        waiting: list[tuple[Any, tuple[str | int, ...]]] = [(tree, ())]
        while waiting:
            value, path = waiting.pop()
            items: Iterable[tuple[str | int, Any]] = ()
            if type(value) is dict:
                keys += len(value)
                items = value.items()
            elif type(value) is list:
                items = enumerate(value)
            for key, item in items:
                kind = type(item)
                if kind is dict or kind is list:
                    waiting.append((item, (*path, key)))
                elif kind is str and item in self.values:
                    value[key] = self.values[item]
                    if item in self.wrong:
                        places[(*path, key)] = self.wrong[item].at
        return Insertion(keys, places)


class Insertion(NamedTuple):
    """The number of keys in a tree, and the indices of the wrong parts of its arrays, by the paths of the arrays."""

    keys: int
    places: Mapping[tuple[str | int, ...], tuple[int, ...]]

    def correct(self, error: Mapping[str, Any]) -> dict[str, Any]:
        """One of pydantic's errors about Python objects, as it is about JSON, with the indices of the body."""
        corrected = {**error, "loc": self._location(error["loc"])}
        given = error["input"]
        if error["type"] == "list_type":
            corrected["msg"] = "Input should be a valid array"
        elif error["type"] == "float_type" and isinstance(given, int) and not isinstance(given, bool):
            corrected |= {"type": "finite_number", "msg": "Input should be a finite number"}  # beyond float64
        return corrected

    def _location(self, location: tuple[str | int, ...]) -> tuple[str | int, ...]:
        steps = [index for index, step in enumerate(location) if not str(step).startswith(UNION_TAG)]
        path = tuple(location[index] for index in steps)
        for place, at in self.places.items():
            if path[: len(place)] == place:
                corrected = list(location)
                for step, index in zip(steps[len(place) :], at, strict=False):
                    corrected[step] = index
                return tuple(corrected)
        return location


def reduce(body: Text, found: Sequence[Found], keep_faults: bool) -> Reduction | None:
    """`body` without the arrays that were found in it; None if all of its text is kept.

    With `keep_faults`, arrays with faults stay in the text.
    """
    cuts: list[_Cut] = []
    values: dict[str, Any] = {}
    wrong: dict[str, Wrong] = {}
    end = len(body)
    for array in found:
        if isinstance(array, Broken):
            cuts.append((array.start, b"[" * array.depth, array.restart))
            end = min(end, array.fault + _AHEAD)
        elif isinstance(array, Unwanted):
            cuts.append((array.start, b"[]", array.stop))
        elif isinstance(array, Even) or not keep_faults:
            mark = f"{_MARK}{len(values)}"
            cuts.append((array.start, b'"%b"' % mark.encode(), array.stop))
            values[mark] = _value(array, body)
            if isinstance(array, Wrong):
                wrong[mark] = array
    if not cuts:
        return None
    texts: list[Text] = []
    begin = 0
    for start, by, stop in cuts:
        texts += body[begin:start], by
        begin = stop
    return Reduction(b"".join((*texts, body[begin:end])), cuts, values, wrong, is_cut=end < len(body))


def _value(array: Even | Wrong | Ragged, body: Text) -> Any:
    if isinstance(array, Even):
        return array.numbers
    if isinstance(array, Wrong):
        return _short(array, bytes(body[array.part]))
    if len(array.found) == 1:
        return RaggedArray(ragged_rows(array.place, array.found[0], array.expected[0]))
    return RaggedArray(ragged_matrices(array.place, array.found, array.expected))


def _short(array: Wrong, part: bytes) -> Any:
    """The shortest list of the array's rank with the wrong part at index 0 where it is there, and else at index 1."""
    is_long = len(part) > _LONGEST_PART and part.startswith(b"[") and not _EMPTY.fullmatch(part)
    value: Any = [0] if is_long else from_json(part)
    for level in reversed(range(len(array.at))):
        before: Any = 0  # in range of all schemas
        for _ in range(array.rank - level - 1):
            before = [before]
        value = [before, value] if array.at[level] > 0 else [value]
    return value


def _index(text: bytes, line: int, column: int) -> int:
    """The index of the byte at a position, as the JSON parser counts: a newline is at column 0 of the next line."""
    start = 0
    for _ in range(line - 1):
        start = text.index(b"\n", start) + 1
    return start + column - 1


def _line_and_column(text: Text, index: int) -> tuple[int, int]:
    before, start = text[: index + 1], 0
    for stop in range(len(before), 0, -_BLOCK):
        begin = max(0, stop - _BLOCK)
        newline = bytes(before[begin:stop]).rfind(b"\n")
        if newline >= 0:
            start = begin + newline + 1
            break
    return 1 + count(before, b"\n"), index + 1 - start
