"""JSON bodies: from bytes to a schema."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fastapi import Request

from ..errors import BodyTooLarge, MalformedBody, Overloaded
from ..formats.json_numbers import reading
from ..formats.json_numbers.reading import count
from ..formats.json_numbers.refusals import Text
from .body import join, read_chunks
from .json_parsing import parse
from .json_text import as_utf8
from .media import is_json, media_type, misdeclared, refuse_charset, unsupported
from .parts import BodyLimits, part
from .routing import Beside, ModelT, within_deadline
from .threads import on_thread

# Bodies of up to this size are parsed on the event loop, within a millisecond. A thread takes longer to hand over.
INLINE_BYTES = 1 << 17
# Seconds for which a large body waits for the reader of arrays to be compiled after the first start, and between looks.
MAX_WAIT_SECONDS, _POLL_SECONDS = 120.0, 0.05


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
        BodyTooLarge: it exceeds the operator's limits, or has too much text besides arrays of numbers.
        Overloaded: it is large, and the reader of large bodies is not compiled yet.
        DeadlineExceeded: it is not read before the request's deadline.
    """
    kind = media_type(request)
    if not is_json(kind):
        raise unsupported(kind, allowed)
    refuse_charset(request)
    most = part(request, BodyLimits).elements
    chunks = await read_chunks(request)
    if sum(map(len, chunks)) <= INLINE_BYTES:
        return _parse(b"".join(chunks), model, most, allowed, beside)

    await reader(request)

    def join_and_parse() -> ModelT:
        return _parse(join(chunks), model, most, allowed, beside)

    return await within_deadline(request, lambda: on_thread(join_and_parse))


async def reader(request: Request) -> None:
    """Wait until the compiled reader is there, which large bodies need.

    It takes seconds after the first start, and tenths of a second after a later one.

    Raises:
        DeadlineExceeded: it is not there before the request's deadline.
        Overloaded: it is not there after MAX_WAIT_SECONDS.
    """
    if reading.is_ready():
        return

    async def wait() -> None:
        for _ in range(round(MAX_WAIT_SECONDS / _POLL_SECONDS)):
            if reading.is_ready():
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise Overloaded("the reader of large bodies is still being compiled; try again later", retry_after=10)

    await within_deadline(request, wait)


def _parse(body: Text, model: type[ModelT], most: int, allowed: Sequence[str], beside: Beside | None) -> ModelT:
    try:
        return _parse_json(body, model, most, beside)
    except MalformedBody as error:
        raise misdeclared(error, bytes(body[:8]), allowed) from None


def _parse_json(body: Text, model: type[ModelT], most: int, beside: Beside | None) -> ModelT:
    body = as_utf8(body)
    # A number may have as little as two bytes of text, and takes eight in memory. A limit on bytes alone would not
    # bound the memory.
    if len(body) > most and count(body, b",") > most:
        raise BodyTooLarge("the body has too many elements", allowed=f"at most {most} elements")
    return parse(body, model, beside)
