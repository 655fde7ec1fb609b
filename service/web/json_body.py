"""JSON bodies: from bytes to a schema."""

from __future__ import annotations

from collections.abc import Sequence

from anyio import to_thread
from fastapi import Request

from ..errors import BodyTooLarge, MalformedBody
from ..formats.json_numbers.reading import Text, count
from .body import join, read_chunks
from .json_parsing import parse
from .json_text import as_utf8
from .media import is_json, media_type, misdeclared, refuse_charset, unsupported
from .parts import BodyLimits, part
from .routing import Beside, ModelT, within_deadline
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
        raise unsupported(kind, allowed)
    refuse_charset(request)
    most = part(request, BodyLimits).elements
    chunks = await read_chunks(request)
    if sum(map(len, chunks)) <= INLINE_BYTES:
        return _parse(b"".join(chunks), model, most, allowed, beside)

    def join_and_parse() -> ModelT:
        return _parse(join(chunks), model, most, allowed, beside)

    return await within_deadline(request, lambda: to_thread.run_sync(join_and_parse, limiter=THREADS))


def _parse(body: Text, model: type[ModelT], most: int, allowed: Sequence[str], beside: Beside | None) -> ModelT:
    try:
        return _parse_json(body, model, most, beside)
    except MalformedBody as error:
        raise misdeclared(error, bytes(body[:8]), allowed) from None


def _parse_json(body: Text, model: type[ModelT], most: int, beside: Beside | None) -> ModelT:
    body = as_utf8(body)
    # A number may have as little as two bytes of text, and other values take up to a hundred times their bytes in
    # memory. A limit on bytes alone would not bound the memory.
    if len(body) > most and count(body, b",") > most:
        raise BodyTooLarge("the body has too many elements", allowed=f"at most {most} elements")
    return parse(body, model, beside)
