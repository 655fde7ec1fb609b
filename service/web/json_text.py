"""Checks of the text of a JSON body: its encoding, and repeated keys.

RFC 8259 leaves the meaning of repeated keys undefined, and parsers silently keep the last value. Here they are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from ..errors import MalformedBody
from ..formats.json_numbers import reading
from ..formats.json_numbers.keys import names
from ..formats.json_numbers.refusals import Text, repeated, step

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Most bodies have fewer quotation marks, and no key twice in any of their objects, which is quick to see.
FEW_QUOTES = 200
_NO_NAMES = names({})
# A string, and a colon if it is a key. The quantifiers are possessive, so that memory does not grow with escapes.
_STRING = re.compile(rb'"((?:[^"\\]++|\\.)*+)"([ \t\r\n]*:)?', re.DOTALL)


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


def refuse_disallowed(text: bytes) -> None:
    """Check that no object has the same key twice and, once the compiled code is there, all that `reading.find` checks.

    Raises what `reading.find` raises.
    """
    if reading.is_ready():
        reading.find(text, _NO_NAMES)
    else:
        refuse_repeated_keys(text)


def refuse_repeated_keys(text: bytes) -> None:
    """Check that no object has the same key twice.

    Args:
        text: valid JSON.

    Raises:
        MalformedBody: an object has a key twice, the pointer names the key; or the text is nested too deep.
        BodyTooLarge: it has too much text besides arrays of numbers.
    """
    if text.count(b'"') <= FEW_QUOTES:
        written = [string for string, colon in _STRING.findall(text) if colon]
        if len(set(written)) == len(written) and not any(b"\\" in key for key in written):
            return  # no key occurs twice anywhere
    if reading.is_ready():
        reading.find(text, _NO_NAMES)
        return
    found = json.loads(text, object_pairs_hook=_with_repetition)
    waiting: list[tuple[Any, str]] = [(found, "")]
    while waiting:
        value, pointer = waiting.pop()
        if isinstance(value, _Repeated):
            raise repeated(value.key, pointer + step(value.key))
        items: Iterable[tuple[str, Any]] = ()
        if isinstance(value, dict):
            items = ((step(key), item) for key, item in value.items())
        elif isinstance(value, list):
            items = ((f"/{index}", item) for index, item in enumerate(value))
        waiting.extend((item, pointer + part) for part, item in items if isinstance(item, (dict, list)))


class _Repeated(dict[str, Any]):
    """An object with a key that it has twice."""

    key: str


def _with_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    again = _Repeated(found)
    again.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return again
