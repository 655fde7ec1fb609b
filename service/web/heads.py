"""The headers that every answer has, also those that the application does not see."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from starlette.responses import Response

from ..version import VERSION

# An answer is data and not a page: it loads nothing, runs nothing, and no other page shows it in a frame.
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
POLICY_HEADER = "content-security-policy"
FIXED = {
    "x-latentserve-version": VERSION,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
_OWN_POLICY = f"\r\n{POLICY_HEADER}:".encode()
_REST_BESIDE_POLICY = "".join(f"{name}: {value}\r\n" for name, value in FIXED.items()).encode() + b"\r\n"
_REST = f"{POLICY_HEADER}: {POLICY}\r\n".encode() + _REST_BESIDE_POLICY


def completed(head: bytes) -> bytes:
    """The head of an answer, whose names are lower-case, with the fixed headers.

    They are added to the bytes, because uvicorn would check and copy each of them for each answer. A page with a
    policy of its own keeps it.
    """
    # A policy has quotes and most heads have none. One byte is found ten times as fast as a text.
    return head[:-2] + (_REST_BESIDE_POLICY if b"'" in head and _OWN_POLICY in head else _REST)


def whole(answer: Response, headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The bytes of an answer that no application sends. It ends its connection."""
    lines = (b"%b: %b\r\n" % header for header in (*answer.raw_headers, *headers, (b"connection", b"close")))
    status = b"HTTP/1.1 %d %b\r\n" % (answer.status_code, HTTPStatus(answer.status_code).phrase.encode())
    return completed(b"".join((status, *lines, b"\r\n"))) + bytes(answer.body)
