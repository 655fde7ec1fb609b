"""JSON as text, before it is read into a schema: its encoding, and keys that one object has twice.

RFC 8259 leaves repeated keys undefined, and parsers take the last value without a word. Here they are refused.
"""

from __future__ import annotations

import json
import re

from ..errors import MalformedBody

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# A string, and whether a colon follows it, which makes it a key. Possessive, so that memory does not grow with escapes.
_STRING = re.compile(rb'"((?:[^"\\]++|\\.)*+)"([ \t\r\n]*:)?', re.DOTALL)


class _Object:
    """One object that is still open: its keys, the last of them, and the objects that were read as values of it."""

    __slots__ = ("children", "is_array", "key", "keys")

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.key: str | None = None
        self.children = 0
        self.is_array = False


def as_utf8(body: bytes) -> bytes:
    """The body without a byte order mark. Raises MalformedBody for UTF-16 and UTF-32."""
    if body.startswith(BYTE_ORDER_MARK):
        return body[len(BYTE_ORDER_MARK) :]
    encoding = json.detect_encoding(body)
    if encoding != "utf-8":
        name = encoding.removesuffix("-le").removesuffix("-be").upper()
        raise MalformedBody(f"the body is encoded in {name}; send JSON encoded in UTF-8", allowed="UTF-8")
    return body


def refuse_repeated_keys(text: bytes) -> None:
    """Raise MalformedBody where an object of the valid JSON `text` has the same key twice.

    Bodies are mostly numbers. Only strings and the braces between them are visited, and the search for those runs in C.
    """
    open_objects = [_Object()]  # the first one stands for the document itself
    end = 0
    for string in _STRING.finditer(text):
        start = string.start()
        opening, closing = text.find(b"{", end, start), text.find(b"}", end, start)
        while opening >= 0 or closing >= 0:
            if closing < 0 or 0 <= opening < closing:
                parent = open_objects[-1]
                # The objects of an array are its only elements in every schema, so that their count is the index.
                parent.is_array = parent.children > 0 or text.find(b"[", end, opening) >= 0
                parent.children += 1
                open_objects.append(_Object())
                opening = text.find(b"{", opening + 1, start)
            else:
                open_objects.pop()
                closing = text.find(b"}", closing + 1, start)
        end = string.end()
        if string[2] is not None:
            raw = string[1]
            key = json.loads(b'"%b"' % raw) if b"\\" in raw else raw.decode()
            current = open_objects[-1]
            if key in current.keys:
                raise MalformedBody(
                    f"an object of the body has the key {key!r} more than once",
                    pointer=_pointer(open_objects[:-1]) + _step(key),
                    allowed="every key once",
                )
            current.keys.add(key)
            current.key, current.children, current.is_array = key, 0, False


def _pointer(path: list[_Object]) -> str:
    """JSON pointer of the value that is being read."""
    steps = []
    for found in path:
        if found.key is not None:
            steps.append(_step(found.key))
        if found.is_array:
            steps.append(f"/{found.children - 1}")
    return "".join(steps)


def _step(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")
