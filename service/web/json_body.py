"""JSON bodies: from bytes to a schema."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from anyio import to_thread
from fastapi import Request

from ..errors import BodyTooLarge, UnsupportedMediaType
from ..formats.json_numbers.reading import Text, count
from .json_parsing import parse
from .json_text import as_utf8
from .media import is_json, media_type, refuse_charset, refuse_encoding
from .parts import BodyLimits, part
from .routing import Beside, ModelT, read_timeout, within_deadline
from .threads import THREADS

# Bodies of up to this size are parsed on the event loop, within a millisecond. A thread takes longer to hand over.
INLINE_BYTES = 1 << 17


async def read_json(
    request: Request,
    model: type[ModelT],
    allowed: Sequence[str] = ("application/json",),
    beside: Beside | None = None,
) -> ModelT:
    """The body as `model`. Large bodies are parsed on a thread beside the event loop.

    `allowed` lists the media types that the endpoint reads, for the error message.

    Raises:
        UnsupportedMediaType: the body is not declared to be JSON in UTF-8.
        MalformedBody: it is not JSON in UTF-8, or one of its objects has a key twice.
        RequestValidationError: it is JSON that does not fit `model`. The errors that `beside` finds are listed too.
        BodyTooLarge: it exceeds the operator's limits.
        DeadlineExceeded: it is not read before the request's deadline.
    """
    kind = media_type(request)
    if not is_json(kind):
        raise UnsupportedMediaType(
            f"this endpoint reads JSON, but the body has {f'the media type {kind}' if kind else 'no media type'}; "
            "send it with Content-Type: application/json",
            allowed=list(allowed),
        )
    refuse_charset(request)
    most = part(request, BodyLimits).elements
    chunks = await _read_chunks(request)
    if sum(map(len, chunks)) <= INLINE_BYTES:
        return _parse(b"".join(chunks), model, most, beside)

    def on_a_thread() -> ModelT:
        return _parse(_join(chunks), model, most, beside)

    if read_timeout(request) is None:
        return await to_thread.run_sync(on_a_thread, limiter=THREADS)
    async with within_deadline(request):
        return await to_thread.run_sync(on_a_thread, limiter=THREADS)


def _parse(body: Text, model: type[ModelT], most: int, beside: Beside | None) -> ModelT:
    body = as_utf8(body)
    # A number may have as little as two bytes of text, and other values take up to a hundred times their bytes in
    # memory. A limit on bytes alone would not bound the memory.
    if len(body) > most and count(body, b",") > most:
        raise BodyTooLarge("the body has too many elements", allowed=f"at most {most} elements")
    return parse(body, model, beside)


async def _read_chunks(request: Request) -> list[bytes]:
    """The parts of the body, if they arrive before the request's deadline."""
    refuse_encoding(request)
    if read_timeout(request) is None:
        return [chunk async for chunk in request.stream() if chunk]
    async with within_deadline(request):
        return [chunk async for chunk in request.stream() if chunk]


def _join(chunks: list[bytes]) -> memoryview:
    """The body, from its parts, which are released. One call for all would hold the interpreter's lock for long."""
    body = np.empty(sum(map(len, chunks)), np.uint8)
    stop = len(body)
    while chunks:
        chunk = chunks.pop()
        body[stop - len(chunk) : stop] = np.frombuffer(chunk, np.uint8)
        stop -= len(chunk)
    return memoryview(body)  # type: ignore[arg-type]


async def read_bytes(request: Request) -> bytearray:
    """The body, if it arrives before the request's deadline.

    Raises:
        UnsupportedMediaType: it is compressed.
        DeadlineExceeded: it does not arrive before the request's deadline.
    """
    refuse_encoding(request)
    if read_timeout(request) is None:
        return await _appended(request)
    async with within_deadline(request):
        return await _appended(request)


async def _appended(request: Request) -> bytearray:
    # Appended as they arrive, because joining the parts of a large body takes milliseconds at once.
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
    return body
