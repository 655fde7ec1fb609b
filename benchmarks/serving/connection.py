"""HTTP/1.1 connections of the load generator: prepared bytes out, one answer at a time back.

A request costs the client about ten microseconds, because nothing of an answer but its status and length is parsed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, cast

import orjson


class Call(NamedTuple):
    """One request: method, path, and a body, of `content_type` if that is given and of JSON values otherwise."""

    method: str
    path: str
    body: object = None
    content_type: str | None = None


def to_bytes(call: Call) -> bytes:
    """The call as an HTTP/1.1 request."""
    if isinstance(call.body, bytes):
        body, kind = call.body, call.content_type
    else:
        body, kind = b"" if call.body is None else orjson.dumps(call.body), "application/json"
    head = f"{call.method} {call.path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class Answer(NamedTuple):
    """The bytes of one answer."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: bytes) -> bytes:
        """The value of the header `name`, in lower case; empty if the answer lacks it."""
        return _header(self.head, name)


class Connection(asyncio.Protocol):
    """A keep-alive connection with at most one request in flight.

    `on_answer(connection, answer)` is called for each answer, and `on_answer(connection, None)` if the connection ends.
    """

    def __init__(self, on_answer: Callable[[Connection, Answer | None], None]) -> None:
        self.sent = 0.0  # when the request started, for the owner of the connection
        self.index = -1  # which request it was, for the owner
        self._on_answer = on_answer
        self._parts: list[bytes] = []
        self._missing = 0
        self._only_head = False  # whether the answer has a head only, as one to HEAD has
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is no subclass

    def send(self, request: bytes) -> None:
        """Send a request."""
        self._only_head = request.startswith(b"HEAD ")
        if self._transport is not None:
            self._transport.write(request)

    def close(self) -> None:
        """Close the connection; `on_answer` is not called any more."""
        self._on_answer = lambda *_: None
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Collect the answer, and hand it over once it is complete."""
        if self._missing > 0:  # a long body
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        elif self._parts:  # an incomplete head
            data = b"".join([*self._parts, data])
            self._parts.clear()
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._parts.append(data)
            return
        head = data[:end].lower()
        # An answer to HEAD declares the length of a body that it does not have, and 304 has none.
        bodiless = self._only_head or head.startswith(b"http/1.1 304")
        length = b"0" if bodiless else _header(head, b"content-length")
        if not length:
            raise ValueError(f"an answer without Content-Length: {head!r}")
        self._missing = end + 4 + int(length) - len(data)
        if self._missing > 0:
            self._parts.append(data)
            return
        self._missing = 0
        self._on_answer(self, Answer(int(head[9:12]), head, data[end + 4 :]))

    def connection_lost(self, error: Exception | None) -> None:
        """Report the end."""
        self._on_answer(self, None)


def _header(head: bytes, name: bytes) -> bytes:
    start = head.find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    end = head.find(b"\r", start)
    return head[start : end if end >= 0 else None].strip()


class Caller:
    """One connection for single requests outside a load: `await caller(call)` gives the answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection: Connection | None = None
        self._answered: asyncio.Future[Answer | None] | None = None

    async def __call__(self, call: Call) -> Answer:
        """Send one request and wait for its answer. Raises ConnectionError if the connection ends before."""
        return await self.raw(to_bytes(call))

    async def raw(self, request: bytes) -> Answer:
        """Send the bytes of one request. Raises ConnectionError if the connection ends before the answer."""
        loop = asyncio.get_running_loop()
        if self._connection is None:
            _, self._connection = await loop.create_connection(
                lambda: Connection(self._on_answer), "127.0.0.1", self._port
            )
        self._answered = loop.create_future()
        self._connection.send(request)
        answer = await self._answered
        if answer is None:
            self._connection = None
            raise ConnectionError(f"the connection ended before the answer to {request[:80]!r}")
        return answer

    def _on_answer(self, connection: Connection, answer: Answer | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(answer)
        elif answer is None:
            self._connection = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
