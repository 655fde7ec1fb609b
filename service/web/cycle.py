"""One request of a connection and its answer, as an ASGI application sees them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, RequestResponseCycle

from .heads import ending

Headers = Iterable[tuple[bytes, bytes]]

_STATUS_LINES = {status: line.rstrip() for status, line in STATUS_LINE.items()}
# The bytes that a value may have (RFC 9110, 5.5).
_ALLOWED = bytes(byte for byte in range(256) if byte == 9 or (byte >= 32 and byte != 127))
_LINE_END = b"\r\n"
# Names that are known to be valid. They come from code, so there are few.
_NAMES: set[bytes] = set()
MOST_NAMES = 1024
# A head is copied with a body of up to this size, so that both are one buffer.
MOST_JOINED = 1 << 14
_ERRORS = logging.getLogger("uvicorn.error")


class Carrier(Protocol):
    """The connection of a request."""

    def on_response_complete(self) -> None:
        """Note that the answer is complete."""

    def ended(self, cycle: Cycle) -> None:
        """Note that the application has ended."""

    def close(self) -> None:
        """Close the connection."""


class Cycle(RequestResponseCycle):
    """One request and its answer. It is the `send` of its application.

    Uvicorn's own class checks and writes each header alone, and writes the head of an answer before its body. For a
    small answer this takes longer than the rest of its way out. Here the head is kept until the first part of the body,
    and both are one write and one packet.

    Args:
        carrier: the connection.
        scope: of ASGI.
        transport: of the connection.
        flow: of the connection.
        default_headers: of every answer.
        expects_continue: whether the client sends the body only after a 100.
        keep_alive: whether the connection may be used again.
    """

    task: asyncio.Task[None]
    """Runs the application."""

    def __init__(
        self,
        carrier: Carrier,
        scope: Any,
        transport: asyncio.Transport,
        flow: FlowControl,
        default_headers: list[tuple[bytes, bytes]],
        expects_continue: bool,
        keep_alive: bool,
    ) -> None:
        self._carrier = carrier
        self.scope = scope
        self.transport = transport
        self.flow = flow
        self.default_headers = default_headers
        self.waiting_for_100_continue = expects_continue
        self.keep_alive = keep_alive
        self.message_event = asyncio.Event()
        self.disconnected = False
        self._held: bytes | bytearray = b""
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self.chunked_encoding: bool | None = None
        self.expected_content_length = 0
        self._head = b""
        self._gone: Callable[[asyncio.Task[None]], object] | None = None
        self.number = 0
        """Of the request, for its admission."""
        self.caller = ""

    async def run_asgi(self, app: Any) -> None:
        """Run the application. If it fails or ends early, answer 500, or close the connection."""
        failure: BaseException | None = None
        try:
            await app(self.scope, self.receive, self)
        except BaseException as error:
            failure = error
        try:
            if failure is not None or not (self.response_complete or self.disconnected):
                _ERRORS.error("the application ended without an answer", exc_info=failure)
                if self.response_started:
                    self._carrier.close()
                else:
                    await self.send_500_response()
        finally:
            self._carrier.ended(self)
            # Otherwise this object and the connection would keep each other until the garbage collector runs.
            self._carrier, self._gone = _NOBODY, None

    def take(self, part: bytes) -> int:
        """Keep a part of the body until the application reads it. Returns the size of all that is kept."""
        if not self._held:
            self._held = part  # large parts come one by one, and are not copied
        elif isinstance(self._held, bytearray):
            self._held += part
        else:
            self._held = bytearray(self._held) + part
        return len(self._held)

    async def receive(self) -> Any:
        """The next message for the application."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        event, flow = self.message_event, self.flow
        if not self.disconnected and not self.response_complete:
            if not event.is_set():
                flow.resume_reading()
                await event.wait()
            event.clear()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self._held = bytes(self._held), b""
        # Also after the last part, because a connection that is not read does not tell that its client has left.
        flow.resume_reading()
        return {"type": "http.request", "body": body, "more_body": self.more_body}

    def watch(self, gone: Callable[[asyncio.Task[None]], object]) -> None:
        """Call `gone` with the task of the application if the client leaves before the answer is complete."""
        self._gone = gone
        if self.disconnected:
            gone(self.task)

    def disconnect(self) -> None:
        """Note that the client has left."""
        self.disconnected = True
        self.message_event.set()
        if self._gone is not None:
            self._gone(self.task)

    async def __call__(self, message: Mapping[str, Any]) -> None:
        """Send a message of the application, at the pace of the client.

        Raises:
            RuntimeError: it is not the message that ASGI expects now, or breaks a rule of HTTP.
        """
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if not self.response_started:
            if kind != "http.response.start":
                raise RuntimeError(f"http.response.start is expected, and not {kind}")
            self._begin(message["status"], message.get("headers", ()))
        elif self.response_complete or kind != "http.response.body":
            raise RuntimeError(f"{kind} is not expected now")
        else:
            self._go_on(message.get("body", b""), message.get("more_body", False))

    send = __call__

    def answer(self, status: int, headers: Headers, body: bytes | memoryview) -> bool:
        """Send a whole answer at once. Returns False, and sends nothing, if the client must be waited for.

        Raises what a call with its messages raises.
        """
        if self.flow.write_paused or self.disconnected or self.response_started:
            return False
        self._begin(status, headers)
        self._go_on(body, False)
        return True

    def _begin(self, status: int, headers: Headers) -> None:
        """Make the head of the answer."""
        fields = [*self.default_headers, *headers]
        named = dict(fields)
        if not named.keys() <= _NAMES:
            _check_names(named)
        if b"connection" in named and b"close" in named[b"connection"].lower().replace(b" ", b"").split(b","):
            self.keep_alive = False
        elif not self.keep_alive:
            fields.append((b"connection", b"close"))
        length = named.get(b"content-length")
        if length is not None:
            self.expected_content_length, self.chunked_encoding = int(length), False
        elif named.get(b"transfer-encoding", b"").lower() == b"chunked":
            self.chunked_encoding = True
        elif self.scope["method"] != "HEAD" and status not in {204, 304}:
            self.chunked_encoding = True
            fields.append((b"transfer-encoding", b"chunked"))
        head = b"\r\n".join((_STATUS_LINES[status], *map(b": ".join, fields), b""))
        # One look at all values takes a fifth of the time of one look at each.
        if head.translate(None, _ALLOWED) != _LINE_END * (len(fields) + 1):
            raise RuntimeError("the value of a header has a character that HTTP forbids")
        self.response_started, self.waiting_for_100_continue = True, False
        self._head = head + ending(head)

    def _go_on(self, body: Any, more: bool) -> None:
        """Write a part of the body, the first one behind the head."""
        if self.scope["method"] == "HEAD":
            self.expected_content_length, body = 0, b""
        elif self.chunked_encoding:
            body = b"".join((b"%x\r\n" % len(body), body, b"\r\n")) if body else b""
            if not more:
                body += b"0\r\n\r\n"
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the body is longer than its Content-Length")
        head, self._head = self._head, b""
        if head and len(body) > MOST_JOINED:
            self.transport.writelines((head, body))
        elif head or body:
            self.transport.write(b"".join((head, body)) if head else body)
        if more:
            return
        if self.expected_content_length:
            raise RuntimeError("the body is shorter than its Content-Length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self._carrier.close()
        self._carrier.on_response_complete()


def _check_names(names: Iterable[bytes]) -> None:
    """Note that names of headers are valid. Raises RuntimeError unless they are."""
    for name in names:
        if name != name.lower() or not name or HEADER_RE.search(name):
            raise RuntimeError(f"{name!r} is no name of a header in lower case")
        if len(_NAMES) < MOST_NAMES:
            _NAMES.add(name)


class _Nobody:
    """The carrier of a request that has ended."""

    def on_response_complete(self) -> None: ...

    def ended(self, cycle: Cycle) -> None: ...

    def close(self) -> None: ...


_NOBODY = _Nobody()
