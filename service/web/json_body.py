"""JSON bodies: from bytes to a schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import from_json

from ..errors import BodyTooLarge, MalformedBody, UnsupportedMediaType
from .json_text import as_utf8, refuse_repeated_keys
from .media import is_json, media_type, refuse_charset
from .parts import BodyLimits, part
from .routing import Beside, ModelT, read_body


async def read_json(
    request: Request,
    model: type[ModelT],
    allowed: Sequence[str] = ("application/json",),
    beside: Beside | None = None,
) -> ModelT:
    """The body as `model`, parsed from JSON text without intermediate Python objects.

    `allowed` lists the media types that the endpoint reads, for the error message.

    Raises:
        UnsupportedMediaType: the body is not declared to be JSON in UTF-8.
        MalformedBody: it is not JSON in UTF-8, or one of its objects has a key twice.
        RequestValidationError: it is JSON that does not fit `model`. The errors that `beside` finds are listed too.
        BodyTooLarge: it exceeds the operator's limits.
        DeadlineExceeded: it does not arrive before the request's deadline.
    """
    kind = media_type(request)
    if not is_json(kind):
        raise UnsupportedMediaType(
            f"this endpoint reads JSON, but the body has {f'the media type {kind}' if kind else 'no media type'}; "
            "send it with Content-Type: application/json",
            allowed=list(allowed),
        )
    refuse_charset(request)
    body = as_utf8(await read_body(request))
    # A number may have as little as two bytes of text, and parsing takes up to a hundred times that in memory. A limit
    # on bytes alone would not bound the memory.
    most = part(request, BodyLimits).elements
    if len(body) > most and body.count(b",") > most:
        raise BodyTooLarge("the body has too many elements", allowed=f"at most {most} elements")
    try:
        found = model.model_validate_json(body)
    except ValidationError as error:
        errors: list[Any] = [*error.errors(include_url=False)]
        if errors[0]["type"] == "json_invalid":
            raise MalformedBody(errors[0]["msg"], allowed="JSON, as RFC 8259 defines it") from None
        refuse_repeated_keys(body)
        if beside and isinstance(fields := from_json(body), dict):
            errors += beside(fields, errors)
        raise RequestValidationError(errors, body=model) from None
    refuse_repeated_keys(body)
    return found
