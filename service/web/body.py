"""The bytes of a request's body."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from fastapi import Request
from starlette.requests import ClientDisconnect

from .media import refuse_encoding
from .routing import within_deadline


async def read_body(request: Request) -> bytearray:
    """The body, if it arrives before the request's deadline.

    Raises:
        UnsupportedMediaType: it is compressed.
        DeadlineExceeded: it does not arrive before the request's deadline.
    """
    # Appended as the parts arrive, because joining those of a large body takes milliseconds at once.
    body = bytearray()
    await _read(request, body.extend)
    return body


async def read_chunks(request: Request) -> list[bytes]:
    """The parts of the body, for `join`. Raises what `read_body` raises."""
    chunks: list[bytes] = []
    await _read(request, chunks.append)
    return chunks


async def _read(request: Request, take: Callable[[bytes], object]) -> None:
    refuse_encoding(request)

    async def read() -> None:
        more = True
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            if chunk := message.get("body"):
                take(chunk)
            more = message.get("more_body", False)

    await within_deadline(request, read)


def join(chunks: list[bytes]) -> memoryview:
    """The body, from its parts, which are released.

    One call for all parts would hold the interpreter's lock for long.
    """
    body = np.empty(sum(map(len, chunks)), np.uint8)
    stop = len(body)
    while chunks:
        chunk = chunks.pop()
        body[stop - len(chunk) : stop] = np.frombuffer(chunk, np.uint8)
        stop -= len(chunk)
    return memoryview(body)  # type: ignore[arg-type]
