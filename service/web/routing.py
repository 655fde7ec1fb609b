"""How endpoints read requests, and how the OpenAPI document describes them.

An endpoint takes the bare `Request`, and parses it directly into its schema with the functions below. They check more
than FastAPI's own parameters do. Numbers must be written as in JSON, and a parameter must not occur twice. All errors
are made in one place, so that an answer lists several. `operation` describes the endpoint in the document.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from ..errors import DeadlineExceeded, InvalidInput
from .json_response import json_response
from .media import header_values
from .number_text import WRITTEN, malformed_numbers
from .problems import responses

ModelT = TypeVar("ModelT", bound=BaseModel)
ResultT = TypeVar("ResultT")
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
# From the fields of a request and the errors of its schema: further errors, all in pydantic's form.
Beside = Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], Sequence[Mapping[str, Any]]]

TIMEOUT_HEADER = "X-Timeout-Seconds"
_TIMEOUT_KEY = TIMEOUT_HEADER.lower().encode()
# Key of the scope under which the outermost layer stores the time at which the request began.
STARTED = "latentserve.started"
MAX_TIMEOUT_SECONDS = 86400.0
# Statuses of errors: of every request that a worker computes, and of every body that is read.
COMPUTED = (422, 500, 503, 504)
READ = (400, 413, 415)
# Headers of every answer, and of answers with status 503.
ALWAYS = {
    "X-Request-Id": "identifier of the request in the log: the caller's own, or a generated one",
    "X-Latentserve-Version": "version of the service that answered",
}
RETRY = {"Retry-After": "seconds to wait before the next attempt, where they can be predicted"}


class Status(NamedTuple):
    """An answer that is neither 200 nor a problem, for the document."""

    status: int
    meaning: str
    sent: Mapping[str, str]
    """Headers of the answer, with their meaning."""


class StrictRoute(APIRoute):
    """An APIRoute that refuses an invalid timeout, and any query parameter if the endpoint has none.

    An endpoint with query parameters calls `read_query`, which refuses unknown and repeated ones.
    """

    def get_route_handler(self) -> Handler:
        """FastAPI's handler, which runs after the checks."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            self._check(request)
            return await handle(request)

        return strict

    @property
    def is_fixed(self) -> bool:
        """Whether the path has no parameters, so that the endpoint takes the request alone."""
        return not self.param_convertors

    def answer(self, request: Request) -> Awaitable[Response]:
        """The answer of an endpoint that takes the request alone, without FastAPI's handler."""
        self._check(request)
        response: Awaitable[Response] = self.endpoint(request)
        return response

    @cached_property
    def _has_query(self) -> bool:
        described = (self.openapi_extra or {}).get("parameters", [])
        return any(parameter["in"] == "query" for parameter in described)

    def _check(self, request: Request) -> None:
        if not self._has_query and request.scope["query_string"] and (errors := _name_errors(_pairs(request), [])):
            raise RequestValidationError(errors)
        read_timeout(request)  # an invalid timeout is refused before the body is read


def operation(
    content: dict[str, Any] | type[BaseModel],
    *,
    description: str,
    query: type[BaseModel] | None = None,
    body: dict[str, Any] | type[BaseModel] | None = None,
    errors: Sequence[int] = (422,),
    headers: Sequence[dict[str, Any]] = (),
    sent: Mapping[str, str] | None = None,
    statuses: Sequence[Status] = (),
) -> dict[str, Any]:
    """Keyword arguments for a router's decorator: the OpenAPI entry of one endpoint.

    Args:
        content: schema of the answer, or its media types if it is not JSON of one schema.
        description: of the answer.
        query: schema of the query parameters.
        body: schema of the JSON body, or the media types of the body.
        errors: statuses of the problems that the endpoint may answer.
        headers: header parameters.
        sent: headers of the answer, with their meaning.
        statuses: other statuses than 200 and problems.
    """
    parameters: list[dict[str, Any]] = [*headers]
    if query is not None:
        parameters += _query_parameters(query)
    extra: dict[str, Any] = {"parameters": parameters}
    if body is not None:
        extra["requestBody"] = {"required": True, "content": body if isinstance(body, dict) else json_content(body)}
    answers: dict[int | str, dict[str, Any]] = {
        200: {
            "description": description,
            "headers": _headers(sent or {}),
            "content": content if isinstance(content, dict) else json_content(content),
        }
    }
    for status, meaning, named in statuses:
        answers[status] = {"description": meaning, "headers": _headers(named)}
    for code, refusal in responses(*errors).items():
        answers[code] = refusal | {"headers": _headers(RETRY if code == 503 else {})}
    return {"openapi_extra": extra, "responses": answers, "response_class": Response}


def _headers(sent: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in {**sent, **ALWAYS}.items()
    }


def json_content(model: type[BaseModel]) -> dict[str, Any]:
    """The media types of a body or an answer that is JSON of `model`, for the document."""
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


def _query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    schema = model.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "description": field.pop("description", ""),
            "schema": field,
        }
        for name, field in schema["properties"].items()
    ]


def answer(content: object) -> Response:
    """An answer with status 200 and `content` as JSON."""
    return json_response(content)


def read_query(request: Request, model: type[ModelT]) -> ModelT:
    """The query string as `model`.

    Raises:
        RequestValidationError: the query string does not fit `model`, or a parameter is unknown or repeated.
    """
    known = model.model_fields
    pairs = _pairs(request)
    fields = {name: text for name, text in pairs if name in known}
    errors = _name_errors(pairs, known) if len(fields) < len(pairs) else []
    return _validate(fields, model, None, errors)


def read_fields(fields: Mapping[str, Any], model: type[ModelT], beside: Beside | None = None) -> ModelT:
    """Fields of a form as `model`.

    Raises:
        RequestValidationError: the fields do not fit `model`. The errors that `beside` finds are listed too.
    """
    return _validate(fields, model, model, beside=beside)


def _validate(
    fields: Mapping[str, Any],
    model: type[ModelT],
    body: type[BaseModel] | None,
    errors: Sequence[Any] = (),
    beside: Beside | None = None,
) -> ModelT:
    """`fields` as `model`. `errors` were found before, and their fields have no second error."""
    reported = {found["loc"][-1] for found in errors}
    errors = [*errors, *(found for found in malformed_numbers(fields, model) if found["loc"][-1] not in reported)]
    try:
        found = model.model_validate(fields)
    except ValidationError as error:
        reported = {known["loc"][-1] for known in errors}
        errors += [other for other in error.errors(include_url=False) if not reported & {*other["loc"][:1]}]
    if errors:
        raise RequestValidationError([*errors, *(beside(fields, errors) if beside else ())], body=body)
    return found


async def within_deadline(request: Request, read: Callable[[], Awaitable[ResultT]]) -> ResultT:
    """The result of `read`, which reads the body, if it ends before the request's deadline.

    Raises:
        DeadlineExceeded: it does not end before the deadline.
    """
    left = read_timeout(request)
    if left is None:  # a timer takes as long as reading a small body
        return await read()
    try:
        async with asyncio.timeout(left):
            return await read()
    except TimeoutError:
        raise DeadlineExceeded("the body was not read before the request's deadline") from None


def read_timeout(request: Request) -> float | None:
    """Seconds until the deadline that the request's header sets; None without the header.

    Raises:
        InvalidInput: the header is not one number of seconds in the allowed range.
        DeadlineExceeded: the deadline has passed.
    """
    texts = header_values(request, _TIMEOUT_KEY)
    if not texts:
        return None
    if len(texts) > 1:
        raise InvalidInput(
            f"{TIMEOUT_HEADER} is given {len(texts)} times", pointer=f"/{TIMEOUT_HEADER}", allowed="one value"
        )
    text = texts[0]
    seconds = float(text) if WRITTEN["float"].fullmatch(text) else math.nan
    if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        reason = "which is not a number of seconds" if math.isnan(seconds) else "which is out of range"
        raise InvalidInput(
            f"{TIMEOUT_HEADER} is {text!r}, {reason}",
            pointer=f"/{TIMEOUT_HEADER}",
            allowed=f"seconds, > 0 and <= {MAX_TIMEOUT_SECONDS:g}",
        )
    started: float = request.scope[STARTED]
    left = seconds - (time.perf_counter() - started)
    if left <= 0:
        raise DeadlineExceeded("the request's deadline has passed")
    return left


def name_deadline(request: Request, error: DeadlineExceeded) -> DeadlineExceeded:
    """The same error with the seconds of the request's header, which the code below the routes does not know."""
    return DeadlineExceeded(f"{error.detail} ({TIMEOUT_HEADER}: {request.headers.get(TIMEOUT_HEADER)})")


def _pairs(request: Request) -> list[tuple[str, str]]:
    """Names and values of the query string, in order."""
    text = request.scope["query_string"].decode("latin-1")
    if "%" in text or "+" in text:
        return parse_qsl(text, keep_blank_values=True)
    # Nothing is encoded, so the text can be split without the general parser, which takes ten times as long.
    return [(name, value) for name, _, value in (part.partition("=") for part in text.split("&") if part)]


def _name_errors(pairs: Sequence[tuple[str, str]], known: Collection[str]) -> list[dict[str, Any]]:
    """Errors in pydantic's form, one for each query parameter that is unknown or repeated."""
    given = [name for name, _ in pairs]
    errors: list[dict[str, Any]] = []
    allowed: object
    for name in dict.fromkeys(given):
        if name not in known:
            message, allowed = f"unknown parameter {name!r}", sorted(known) or "no parameters"
        elif given.count(name) > 1:
            message, allowed = f"parameter {name!r} is given {given.count(name)} times", "one value"
        else:
            continue
        errors.append({"type": "parameter", "loc": ("query", name), "msg": message, "ctx": {"allowed": allowed}})
    return errors
