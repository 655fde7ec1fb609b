"""Uvicorn's httptools protocol for HTTP/1.1, with other rules for upgrades, oversized headers and parser errors."""

from __future__ import annotations

import re
import secrets
import sys

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from ..version import VERSION
from .observability import log
from .problems import problem

MAX_HEADER_BYTES = 64 * 1024
_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)


class Protocol(HttpToolsProtocol):
    """One connection.

    A server may ignore an offer to upgrade (RFC 9110, 7.8). Some clients always make one: Java's client offers HTTP/2
    with its first request. The parser, however, stops after the headers of such a request, and its body is lost. The
    header is therefore renamed before the parser reads it.
    """

    _in_message = False
    _header_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Rename an `Upgrade` header, and pass the bytes to the parser."""
        if not self._in_message:
            head, end, rest = data.partition(b"\r\n\r\n")
            data = _UPGRADE.sub(b"\r\nx-ignored-upgrade:", head) + end + rest
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin to count the bytes of the headers."""
        self._in_message = True
        self._header_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Read a header, or close the connection if the headers exceed `MAX_HEADER_BYTES`."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            self.transport.abort()  # such a client is still sending and would not read an answer
            return
        super().on_header(name, value)

    def on_message_complete(self) -> None:
        """Note that the next bytes begin a new request."""
        self._in_message = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not valid HTTP with a problem, and close the connection.

        Uvicorn calls this while it handles the parser's exception. Earlier requests that were complete are still
        answered, and then the connection closes without a 400, which clients would take for one of those answers.
        """
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False
                return
            # The body of this request is damaged, and the application still waits for the rest of it.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.close()
                return
        error = sys.exception()
        reason = str((error and error.__context__) or error or msg)
        request_id = secrets.token_hex(8)
        log.info("malformed request", request_id=request_id, reason=reason)
        answer = problem(400, "malformed-request", f"the request is not valid HTTP/1.1: {reason}")
        headers = [
            *answer.raw_headers,
            (b"x-request-id", request_id.encode()),
            (b"x-latentserve-version", VERSION.encode()),
            (b"connection", b"close"),
        ]
        head = [STATUS_LINE[400], *(b"%b: %b\r\n" % header for header in headers), b"\r\n"]
        self.transport.write(b"".join(head) + bytes(answer.body))
        self.transport.close()
