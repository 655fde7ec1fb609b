"""Uvicorn's fast HTTP/1.1 protocol, with two of its gaps closed: offers to upgrade, and endless headers."""

from __future__ import annotations

import re

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 64 * 1024
_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)


class Protocol(HttpToolsProtocol):
    """One connection.

    A server may ignore an offer to upgrade (RFC 9110, 7.8), and clients make it unasked: Java's offers HTTP/2 with
    every first request. The parser, however, stops behind the headers of such a request and its body is lost. So the
    offer is taken out of a request's head before the parser sees it.
    """

    _in_message = False
    _header_bytes = 0

    def data_received(self, data: bytes) -> None:
        if not self._in_message:
            head, end, rest = data.partition(b"\r\n\r\n")
            data = _UPGRADE.sub(b"\r\nx-ignored-upgrade:", head) + end + rest
        super().data_received(data)

    def on_message_begin(self) -> None:
        self._in_message = True
        self._header_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            self.transport.abort()  # whoever sends that does not wait for an explanation
            return
        super().on_header(name, value)

    def on_message_complete(self) -> None:
        self._in_message = False
        super().on_message_complete()
