"""JSON text without its long arrays, which are inserted once the rest is parsed."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic_core import from_json

from ..formats.arrays import RaggedArray, WrongArray, ragged_matrices, ragged_rows
from ..formats.json_numbers.keys import Names
from ..formats.json_numbers.reading import Even, Found, Ragged, Unwanted, Wrong, find
from ..formats.json_numbers.refusals import Text

# A string in the place of an array, before its number. Callers cannot know it, so that no body contains it.
_MARK = f"array-{secrets.token_hex(16)}-"
# Longer arrays and objects at fault are not parsed, nor are strings, because errors do not show them.
_LONGEST_PART = _LONGEST_SCALAR = 4096
# Bytes that are searched at once.
_BLOCK = 1 << 20


def read_value(text: Text, wanted: Names, root: int) -> Any:
    """The value of a text as it is inserted into a tree. `wanted` and `root` are those of `reading.find`, and so are
    the errors.
    """
    reduction = reduce(text, find(text, wanted, root))
    if reduction is None:
        return from_json(bytes(text))
    return reduction.values[from_json(reduction.text)] if reduction.text.startswith(b'"') else insert(reduction)


class Reduction(NamedTuple):
    """A text without its long arrays."""

    text: bytes
    values: Mapping[str, Any]
    """The arrays, or what stands for arrays with faults, by the strings in their places."""


def reduce(body: Text, found: Sequence[Found]) -> Reduction | None:
    """`body` without the arrays that were found in it; None if there are none."""
    if not found:
        return None
    values: dict[str, Any] = {}
    texts: list[Text] = []
    begin = 0
    for array in found:
        by = b"[]"
        if not isinstance(array, Unwanted):
            mark = f"{_MARK}{len(values)}"
            by = b'"%b"' % mark.encode()
            values[mark] = _value(array, body)
        texts += body[begin : array.start], by
        begin = array.stop
    return Reduction(b"".join((*texts, body[begin:])), values)


def insert(reduction: Reduction) -> Any:
    """The text, parsed, with its arrays.

    An array that is wrong at one part is a `WrongArray`, and one with rows of different lengths a `RaggedArray`. The
    schema finds the same errors in them as in the whole text.
    """
    tree: Any = from_json(reduction.text)
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        items: Iterable[tuple[str | int, Any]] = value.items() if type(value) is dict else enumerate(value)
        for key, item in items:
            kind = type(item)
            if kind is dict or kind is list:
                waiting.append(item)
            elif kind is str and item in reduction.values:
                value[key] = reduction.values[item]
    return tree


def corrected(error: Mapping[str, Any]) -> dict[str, Any]:
    """One of pydantic's errors about Python objects, as it is about JSON."""
    found, given = dict(error), error["input"]
    if error["type"] == "list_type":
        found["msg"] = "Input should be a valid array"
    elif error["type"] == "float_type" and isinstance(given, int) and not isinstance(given, bool):
        found |= {"type": "finite_number", "msg": "Input should be a finite number"}  # beyond float64
    return found


def _value(array: Even | Wrong | Ragged, body: Text) -> Any:
    if isinstance(array, Even):
        return array.numbers
    if isinstance(array, Wrong):
        return WrongArray(_part(body, array.part), array.at, array.rank)
    if len(array.found) == 1:
        return RaggedArray(ragged_rows(array.place, array.found[0], array.expected[0]))
    return RaggedArray(ragged_matrices(array.place, array.found, array.expected))


def _part(body: Text, place: slice) -> Any:
    """The value at fault; a short one of the same type if it is long."""
    first, length = bytes(body[place.start : place.start + 1]), place.stop - place.start
    if length <= (_LONGEST_PART if first in b"[{" else _LONGEST_SCALAR):
        return from_json(bytes(body[place]))
    if first == b"[":
        return [] if _is_empty(body, place) else [0]
    return {} if first == b"{" else "x" * _LONGEST_SCALAR


def _is_empty(body: Text, place: slice) -> bool:
    """Whether the array at `place` has nothing but white space."""
    for start in range(place.start + 1, place.stop, _BLOCK):
        rest = bytes(body[start : start + _BLOCK]).lstrip(b" \t\r\n")
        if rest:
            return rest.startswith(b"]")
    return False
