"""Whatever the segments in which a client's bytes arrive, its requests are read whole, and answered in order."""

from __future__ import annotations

import asyncio
import hashlib
from itertools import pairwise
from typing import Any, NamedTuple

import uvicorn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from service.web.protocol import Protocol

UPGRADES = (b"", b"Upgrade: h2c\r\n", b"upgrade:websocket\r\nConnection: Upgrade\r\n")


class Sent(NamedTuple):
    """A request, and the body that the application must see; None for a request without one."""

    head: bytes
    body: bytes
    is_chunked: bool

    def on_the_wire(self) -> bytes:
        """The request as HTTP/1.1."""
        if self.is_chunked:
            half = len(self.body) // 2
            parts = [part for part in (self.body[:half], self.body[half:]) if part]
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
            return self.head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        length = b"Content-Length: %d\r\n" % len(self.body) if self.body else b""
        return self.head + length + b"\r\n" + self.body


class Pipe(asyncio.Transport):
    """The end of a connection that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2), "sslcontext": None})
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, list_of_data: Any) -> None:
        self.written += b"".join(list_of_data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the path, the length and the digest of the body."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    content = expected(scope["path"].encode(), body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(content))]})
    await send({"type": "http.response.body", "body": content})


def expected(path: bytes, body: bytes) -> bytes:
    return b"%b %d %b\n" % (path, len(body), hashlib.sha256(body).hexdigest().encode())


async def answers(pieces: list[bytes], count: int) -> list[bytes]:
    """The bodies of the answers to `count` requests that arrive in these pieces."""
    config = uvicorn.Config(echo, http=Protocol, lifespan="off", log_config=None, access_log=False)
    config.load()
    protocol = Protocol(config, ServerState(), {})
    pipe = Pipe()
    protocol.connection_made(pipe)
    for piece in pieces:
        protocol.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(50 * count):
        if pipe.written.count(b"HTTP/1.1 ") >= count and pipe.written.endswith(b"\n"):
            break
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    found = bytes(pipe.written).split(b"HTTP/1.1 200 ")
    return [answer.partition(b"\r\n\r\n")[2] for answer in found[1:]]


@st.composite
def requests(draw: st.DrawFn) -> list[Sent]:
    found = []
    for number in range(draw(st.integers(1, 4))):
        body = draw(
            st.one_of(st.just(b""), st.binary(max_size=40), st.just(b"\r\nUpgrade: h2c\r\n\r\nGET / HTTP/1.1\r\n"))
        )
        method = b"POST" if body else draw(st.sampled_from((b"GET", b"POST")))
        upgrade = draw(st.sampled_from(UPGRADES))
        head = b"%b /%d HTTP/1.1\r\nHost: x\r\n%b" % (method, number, upgrade)
        is_chunked = method == b"POST" and draw(st.booleans())
        found.append(Sent(head, body, is_chunked))
    return found


H2C = Sent(b"POST /0 HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\n", b"whole", False)


@settings(max_examples=300)
@given(requests(), st.lists(st.integers(0, 600), max_size=6))
@example([H2C], [20])  # the header in the second segment
@example([H2C, H2C._replace(head=H2C.head.replace(b"/0", b"/1"))], [])  # two in one segment
def test_segments_do_not_matter(sent: list[Sent], cuts: list[int]) -> None:
    stream = b"".join(one.on_the_wire() for one in sent)
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:end] for start, end in pairwise(places)]
    found = asyncio.run(answers(pieces, len(sent)))
    assert found == [expected(b"/%d" % number, one.body) for number, one in enumerate(sent)]
