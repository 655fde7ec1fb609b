"""Checks of the text of a JSON body: its encoding, and repeated keys.

RFC 8259 leaves the meaning of repeated keys undefined, and parsers silently keep the last value. Here they are refused.
"""

from __future__ import annotations

import json
import re

from ..errors import MalformedBody
from ..formats.json_numbers.reading import Text

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Most bodies have fewer quotation marks, and no key twice in any of their objects, which is quick to see.
FEW_QUOTES = 200
# A string, and a colon if it is a key. The quantifiers are possessive, so that memory does not grow with escapes.
_STRING = re.compile(rb'"((?:[^"\\]++|\\.)*+)"([ \t\r\n]*:)?', re.DOTALL)


class _Object:
    """An object whose end was not reached yet: its keys, the latest key, and the number of objects in its value."""

    __slots__ = ("children", "is_array", "key", "keys")

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.key: str | None = None
        self.children = 0
        self.is_array = False


def as_utf8(body: Text) -> Text:
    """The body without a byte order mark.

    Raises:
        MalformedBody: the body is encoded in UTF-16 or UTF-32.
    """
    head = bytes(body[:4])
    if head.startswith(BYTE_ORDER_MARK):
        return body[len(BYTE_ORDER_MARK) :]
    if b"\0" not in head and not head.startswith((b"\xff", b"\xfe")):
        return body
    encoding = json.detect_encoding(head)
    if encoding != "utf-8":
        name = encoding.removesuffix("-le").removesuffix("-be").upper()
        raise MalformedBody(f"the body is encoded in {name}; send JSON encoded in UTF-8", allowed="UTF-8")
    return body


def refuse_repeated_keys(text: bytes, keys: int = -1) -> None:
    """Check that no object has the same key twice.

    If its parsed form has as many keys as the text has colons, no key is repeated. Otherwise the text is searched.
    Bodies consist mostly of numbers. Only strings and the braces between them are visited, and both searches run in C.

    Args:
        text: valid JSON.
        keys: the number of keys in all objects of the parsed text; -1 if it is not known.

    Raises:
        MalformedBody: an object has a key twice; the pointer names the key.
    """
    if text.count(b":") == keys:
        return
    if text.count(b'"') <= FEW_QUOTES:
        written = [string for string, colon in _STRING.findall(text) if colon]
        if len(set(written)) == len(written) and not any(b"\\" in key for key in written):
            return  # no key occurs twice anywhere
    open_objects = [_Object()]  # the first one represents the document itself
    end = 0
    for string in _STRING.finditer(text):
        start = string.start()
        opening, closing = text.find(b"{", end, start), text.find(b"}", end, start)
        while opening >= 0 or closing >= 0:
            if closing < 0 or 0 <= opening < closing:
                parent = open_objects[-1]
                # In every schema, an array with objects contains nothing else, so their count is the index.
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
