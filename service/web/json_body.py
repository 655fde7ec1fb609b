"""JSON bodies: from bytes to a schema."""

from __future__ import annotations

from collections.abc import Sequence

from anyio import to_thread
from fastapi import Request

from ..errors import BodyTooLarge, UnsupportedMediaType
from ..formats.json_numbers.reading import count_commas
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
    body = as_utf8(await read_bytes(request))
    most = part(request, BodyLimits).elements
    if len(body) <= INLINE_BYTES:
        _check_elements(body, most)
        return parse(body, model, beside)

    def in_a_thread() -> ModelT:
        _check_elements(body, most)
        return parse(body, model, beside)

    if read_timeout(request) is None:
        return await to_thread.run_sync(in_a_thread, limiter=THREADS)
    async with within_deadline(request):
        return await to_thread.run_sync(in_a_thread, limiter=THREADS)


def _check_elements(body: bytes | bytearray, most: int) -> None:
    # A number may have as little as two bytes of text, and other values take up to a hundred times their bytes in
    # memory. A limit on bytes alone would not bound the memory.
    if len(body) > most and count_commas(body) > most:
        raise BodyTooLarge("the body has too many elements", allowed=f"at most {most} elements")


async def read_bytes(request: Request) -> bytearray:
    """The body, if it arrives before the request's deadline.

    Raises:
        UnsupportedMediaType: it is compressed.
        DeadlineExceeded: it does not arrive before the request's deadline.
    """
    refuse_encoding(request)
    if read_timeout(request) is None:
        return await _joined(request)
    async with within_deadline(request):
        return await _joined(request)


async def _joined(request: Request) -> bytearray:
    # Appended as they arrive, because joining the parts of a large body takes milliseconds at once.
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
    return body
