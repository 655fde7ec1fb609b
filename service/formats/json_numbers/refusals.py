"""The errors of JSON texts that are not read: their fault or their size, and where it is."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from ...errors import BodyTooLarge, LatentserveError, MalformedBody
from . import walking
from .decimals import MAX_LENGTH
from .keys import count_bytes
from .syntax import AFTER_KEY, AFTER_VALUE, KEY, NEWLINE, VALUE

# A large text is a view of an array, which can be written part by part; small ones are bytes.
Text = bytes | memoryview
Int64 = NDArray[np.int64]

# What may be besides arrays of numbers: bytes of text, objects and arrays, and keys. A batch of 1,024 small problems
# has a fifth of it. A reader that makes Python objects takes about 10 ms and 20 MB for all of it.
MAX_BYTES, MAX_CONTAINERS, MAX_KEYS = 1 << 20, 1 << 16, 1 << 15
# The text that may be read again, to find the JSON parser's words for a fault.
_MAX_REREAD = 1 << 16
# Bytes after a fault of the syntax, which the JSON parser may read before it reports the fault.
_AHEAD = 64
# Bytes that are searched at once.
_BLOCK = 1 << 20
# Before the JSON parser's message.
INVALID_JSON = "Invalid JSON: "
_POSITION = re.compile(r" at line (\d+) column (\d+)$")


def refuse(text: Text, walked: Int64) -> tuple[int, int, int]:
    """Raise the error of a text, if it has one. `walked` is what `walking.walk` found.

    Returns the number of records, the number of numbers, and how many of these are undecided.
    """
    (end, place, depth, _, _, *found, bytes_, containers, keys, again, stop, at, first, last, _) = walked[
        : walking.COLUMNS
    ].tolist()
    if end == walking.FAULT:
        raise malformed(_fault(text, walked, walking.stacks(walked)[0, : depth + 1]))
    if end != walking.COMPLETE:
        raise _not_allowed(end, text, place, _pointer(text, walking.stacks(walked)[0, : depth + 1]))
    if bytes_ > MAX_BYTES or containers > MAX_CONTAINERS or keys > MAX_KEYS:
        raise _too_much((bytes_, containers, keys), step(_string(text, first, last)) if first else "")
    if at:
        raise repeated(_string(text, again, stop), _pointer(text, walking.stacks(walked)[1, : at + 1]))
    count, number, undecided = found
    return count, number, undecided


def _too_much(found: tuple[int, int, int], pointer: str) -> BodyTooLarge:
    amounts = ("bytes", MAX_BYTES), ("objects and arrays", MAX_CONTAINERS), ("keys", MAX_KEYS)
    amount, name, most = next((one, *limit) for one, limit in zip(found, amounts, strict=True) if one > limit[1])
    return BodyTooLarge(
        f"there are {amount:,} {name} besides arrays of numbers, most of them here",
        pointer=pointer,
        allowed=f"at most {most:,} {name} besides arrays of numbers",
    )


def malformed(message: str) -> MalformedBody:
    """The error of a text that is not JSON."""
    return MalformedBody(f"{INVALID_JSON}{message}", allowed="JSON, as RFC 8259 defines it")


def repeated(key: str, pointer: str) -> MalformedBody:
    """The error of a key that its object has twice; `pointer` is that of the key."""
    return MalformedBody(
        f"an object of the body has the key {key!r} more than once", pointer=pointer, allowed="every key once"
    )


def step(key: str) -> str:
    """The part of a JSON pointer (RFC 6901) for a key."""
    return "/" + key.replace("~", "~0").replace("/", "~1")


def _not_allowed(end: int, text: Text, place: int, pointer: str) -> LatentserveError:
    if end == walking.TOO_DEEP:
        return MalformedBody(
            f"arrays and objects are nested more than {walking.MAX_DEPTH} deep",
            pointer=pointer,
            allowed=f"at most {walking.MAX_DEPTH} arrays and objects within one another",
        )
    if end == walking.LONG_NUMBER:
        shown = bytes(text[place : place + 20]).decode("ascii")
        return BodyTooLarge(
            f"a number of more than {MAX_LENGTH} characters begins {shown}",
            pointer=pointer,
            allowed=f"at most {MAX_LENGTH} characters",
        )
    return BodyTooLarge(
        f"an object has more than {walking.MAX_KEYS_OF_ONE} keys",
        pointer=pointer,
        allowed=f"at most {walking.MAX_KEYS_OF_ONE} keys in an object",
    )


def _pointer(text: Text, stack: Int64) -> str:
    """The JSON pointer of the place where these arrays and objects are open."""
    steps = []
    for is_object, position, start, stop, _ in stack[1:].tolist():
        steps.append(step(_string(text, start, stop)) if is_object else f"/{position}")
    return "".join(steps)


def _string(text: Text, start: int, stop: int) -> str:
    """The string in text[start:stop], without most of its characters if it is long."""
    if stop - start > _MAX_REREAD:
        return f"{bytes(text[start : start + 40]).decode(errors='replace')}..."
    found: str = from_json(b'"%b"' % bytes(text[start:stop]))
    return found


def _fault(text: Text, walked: Int64, stack: Int64) -> str:
    """The JSON parser's message about the fault where a walk ended."""
    _, place, _, next_, reach = walked[: walking.REACH + 1].tolist()
    if reach - place <= _MAX_REREAD:
        # A short text with the same open arrays and objects, and what comes next.
        opened = b"".join(b'{"":' if is_object else b"[" for is_object in stack[1:, walking.IS_OBJECT].tolist())
        if len(stack) > 1 and stack[-1, walking.IS_OBJECT]:
            opened = opened[:-4] + _WITHIN_OBJECT.get(next_, b"{")
        else:
            opened += _WITHIN_ARRAY.get(next_, b"") if len(stack) > 1 or next_ == AFTER_VALUE else b""
        short = opened + bytes(text[place : reach + _AHEAD])
        try:
            from_json(short)
        except ValueError as error:
            found = _POSITION.search(str(error))
            if found is not None:
                index = place - len(opened) + _index(short, int(found[1]), int(found[2]))
                return f"{str(error)[: found.start()]} {_line_and_column(text, index)}"
    return f"a fault {_line_and_column(text, reach)}"


_WITHIN_ARRAY = {VALUE: b"0,", AFTER_VALUE: b"0 "}
_WITHIN_OBJECT = {KEY: b'{"":0,', AFTER_KEY: b'{"" ', VALUE: b'{"":', AFTER_VALUE: b'{"":0 '}


def _index(text: bytes, line: int, column: int) -> int:
    """The index of the byte at a position, as the JSON parser counts: a newline is at column 0 of the next line."""
    start = 0
    for _ in range(line - 1):
        start = text.index(b"\n", start) + 1
    return start + column - 1


def _line_and_column(text: Text, index: int) -> str:
    before, start = text[: index + 1], 0
    for stop in range(len(before), 0, -_BLOCK):
        begin = max(0, stop - _BLOCK)
        newline = bytes(before[begin:stop]).rfind(b"\n")
        if newline >= 0:
            start = begin + newline + 1
            break
    lines = int(count_bytes(as_bytes(before), NEWLINE)) if before else 0
    return f"at line {1 + lines} column {index + 1 - start}"


def as_bytes(text: Text) -> NDArray[np.uint8]:
    """The text as an array, for compiled code."""
    array = np.frombuffer(text, np.uint8)
    if not isinstance(text, bytes):
        array.flags.writeable = False  # one type for both kinds of bytes, so that the code is compiled once
    return array
