"""Uvicorn's httptools protocol for HTTP/1.1, with other rules for upgrades, headers and parser errors."""

from __future__ import annotations

import asyncio
import re
import secrets
import sys

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from .heads import whole
from .observability import log
from .problems import problem
from .transport import JoiningTransport

MAX_HEADER_BYTES = 64 * 1024
# Seconds in which a client that is still sending can read the answer to a request that was refused.
LINGER_SECONDS = 2.0
# Seconds that a client may take to send the head of a request, or may pause in its body.
SILENT_SECONDS = 60.0
_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)


class _Refusal(Exception):
    """A request whose head breaks a rule. Raised in a callback of the parser, which then reports it as its error."""

    def __init__(self, status: int, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug


class Protocol(HttpToolsProtocol):
    """One connection.

    A server may ignore an offer to upgrade (RFC 9110, 7.8). Some clients always make one: Java's client offers HTTP/2
    with its first request. The parser, however, stops after the headers of such a request, and its body is lost. The
    header is therefore renamed before the parser reads it.
    """

    _in_message = False
    _in_head = False
    _silence: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _refused = False
    _answered: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request."""
        self._joining = JoiningTransport(transport, self._begins_answer)
        super().connection_made(self._joining)
        self._expect()

    def _begins_answer(self) -> bool:
        cycle = self.cycle
        if cycle is None or not cycle.response_started or cycle is self._answered:
            return False
        self._answered = cycle
        return True

    def on_response_complete(self) -> None:
        """Send an answer without a body, and go on with the next request."""
        self._joining.flush()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._expect_nothing()
        super().connection_lost(exc)

    def _expect(self) -> None:
        """Close the connection if the client is silent from now on."""
        self._expect_nothing()
        self._silence = self.loop.call_later(SILENT_SECONDS, self._is_silent)

    def _expect_nothing(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _is_silent(self) -> None:
        if self.flow.read_paused:  # the service itself does not read now
            self._expect()
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Rename an `Upgrade` header, and pass the bytes to the parser; discard them after a refusal."""
        if self._refused:
            return
        if not self._in_message:
            head, end, rest = data.partition(b"\r\n\r\n")
            data = _UPGRADE.sub(b"\r\nx-ignored-upgrade:", head) + end + rest
        super().data_received(data)
        # Most requests arrive at once, so they need no timer.
        if not self._in_message:
            self._expect_nothing()
        elif not self._in_head or self._silence is None:
            self._expect()

    def on_message_begin(self) -> None:
        """Begin to count the bytes of the headers."""
        self._in_message = self._in_head = True
        self._header_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Read a part of the request's target, which counts as a header."""
        super().on_url(url)
        if len(self.url) > MAX_HEADER_BYTES:
            raise _Refusal(414, "uri-too-long", f"the request's target has more than {MAX_HEADER_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Read a header, or refuse the request if its headers, with those after its chunks, are too large."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise _Refusal(431, "headers-too-large", f"the request's headers have more than {MAX_HEADER_BYTES} bytes")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, or refuse it without one Host header (RFC 9112, 3.2)."""
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise ValueError(f"a request needs one Host header; this one has {hosts}")
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that the next bytes begin a new request."""
        self._in_message = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not valid HTTP, or a refused head, with a problem, and close the connection.

        Uvicorn calls this while it handles the parser's exception. Earlier requests that were complete are still
        answered, and then the connection closes without a 400, which clients would take for one of those answers.
        """
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False
                self._refused = True
                return
            # The body of this request is damaged, and the application still waits for the rest of it.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.close()
                return
        error = sys.exception()
        cause = (error and error.__context__) or error
        request_id = secrets.token_hex(8)
        log.info("malformed request", request_id=request_id, reason=str(cause or msg))
        if isinstance(cause, _Refusal):
            answer = problem(cause.status, cause.slug, str(cause))
        else:
            answer = problem(400, "malformed-request", f"the request is not valid HTTP/1.1: {cause or msg}")
        self.transport.write(whole(answer, [(b"x-request-id", request_id.encode())]))
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        # A client that is still sending would lose the answer if the connection were closed at once.
        self._refused = True
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)
