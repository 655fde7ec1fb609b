"""`application/problem+json` (RFC 9457): every error answer, and its entries in the OpenAPI document."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from pydantic import BaseModel, Field
from starlette.responses import Response

from ..errors import BodyTooLarge, InvalidInput, LatentserveError, Overloaded, UnknownCheckpoint, status_of
from ..formats.arrays import UNION_TAG, to_json

MEDIA_TYPE = "application/problem+json"
# Maximum errors listed in one answer.
_MAX_ERRORS = 20
# Titles that would depend on the version of Python: since 3.13 it has the names of RFC 9110.
_TITLES = {413: "Request Entity Too Large", 414: "URI Too Long", 422: "Unprocessable Entity"}


class FieldError(BaseModel):
    """The error of one field."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the body, or /name of a parameter")
    detail: str
    allowed: Any = Field(None, description="what the field accepts")


class ProblemDetails(BaseModel):
    """An error in the format of RFC 9457."""

    type: str = Field(description="URN that names the kind of error")
    title: str
    status: int
    detail: str = Field(description="cause and cure, with the offending value")
    errors: list[FieldError]


class Found(NamedTuple):
    """One error, before its conversion to JSON."""

    pointer: str
    detail: str
    allowed: object


def problem(
    status: int,
    slug: str,
    detail: str,
    errors: Iterable[Found] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response for one error."""
    return _respond(problem_object(status, slug, detail, errors), headers)


def _respond(content: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Response:
    status = content["status"]
    return Response(
        to_json(content),
        status if isinstance(status, int) else 500,
        dict(headers or {}),
        media_type=MEDIA_TYPE,
    )


def title_of(status: int) -> str:
    """The title of a status, the same under every version of Python."""
    return _TITLES.get(status) or HTTPStatus(status).phrase


def problem_object(status: int, slug: str, detail: str, errors: Iterable[Found] = ()) -> dict[str, object]:
    """The members of a problem, for a response of its own or as one of many results."""
    return {
        "type": f"urn:latentserve:problem:{slug}",
        "title": title_of(status),
        "status": status,
        "detail": detail,
        "errors": [error._asdict() for error in errors],
    }


def from_domain(error: LatentserveError) -> Response:
    """The response for a domain error, by the table in `service.errors`."""
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, BodyTooLarge):
        headers["Connection"] = "close"  # otherwise the server would read the rest of the refused body
    if isinstance(error, UnknownCheckpoint):
        headers["Cache-Control"] = "no-store"  # caches may store a 404, but another replica may serve the checkpoint
    return _respond(object_of_domain(error), headers)


def object_of_domain(error: LatentserveError, at: str = "") -> dict[str, object]:
    """The problem for a domain error; `at` is the pointer of the part of the body that the error concerns."""
    status, slug = status_of(error)
    errors = (error, *error.others) if isinstance(error, InvalidInput) else (error,)
    found = [
        Found(at + one.pointer, one.detail, one.allowed) for one in errors if one.pointer or one.allowed is not None
    ]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return problem_object(status, slug, error.detail + more, found)


def from_validation(errors: Sequence[Mapping[str, Any]], known: Sequence[str] = ()) -> Response:
    """The response for pydantic's errors. `known` are the valid fields, for errors about unknown ones."""
    return _respond(object_of_validation(errors, known))


def object_of_validation(
    errors: Sequence[Mapping[str, Any]], known: Sequence[str] = (), at: str = ""
) -> dict[str, object]:
    """The problem for pydantic's errors; `at` is the pointer of the part of the body that they concern."""
    found = [_translate(error, known) for error in errors[:_MAX_ERRORS]]
    first = found[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    detail = f"{at + first.pointer or 'the request'}: {first.detail}{more}"
    return problem_object(422, "invalid-input", detail, [error._replace(pointer=at + error.pointer) for error in found])


def as_validation(error: InvalidInput) -> dict[str, Any]:
    """A domain error in pydantic's form, so that one answer lists it beside the errors of the schema."""
    return {
        "type": "domain",
        "loc": tuple(error.pointer.split("/")[1:]),
        "msg": error.detail,
        "ctx": {"allowed": error.allowed},
    }


def _translate(error: Mapping[str, Any], known: Sequence[str]) -> Found:
    kind, context = error["type"], error.get("ctx") or {}
    location = [part for part in error["loc"] if not str(part).startswith(UNION_TAG)]
    if "field" in context:  # from a check of the whole object, which names the field at fault
        location.append(context["field"])
    if location and location[0] in {"query", "path", "header"}:
        location = location[1:]
    pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)
    if kind == "extra_forbidden":
        allowed = sorted(known) if len(location) == 1 else []  # `known` has the fields of the outermost object only
        return Found(pointer, f"unknown field {location[-1]!r}", allowed or "leave it out")
    if kind == "missing":
        return Found(pointer, "this field is required", "a value")
    if kind == "ragged_array":
        return Found(pointer, _sentence(error), context.get("allowed", "rows of equal length"))
    return Found(pointer, _sentence(error), _allowed(kind, context))


def _sentence(error: Mapping[str, Any]) -> str:
    text = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] in {"model_type", "dict_type"}:  # pydantic's own message names a class
        text = "Input should be an object"
    given = error.get("input")
    # The message repeats scalars, but not arrays or whole bodies.
    if isinstance(given, (bool, int, float, str)) and len(str(given)) <= 80:
        text += f" (given: {given!r})"
    return text[:1].lower() + text[1:]


_TYPES = {
    "float": "a finite number",
    "finite": "a finite number",
    "int": "an integer",
    "list": "an array",
    "bool": "true or false",
    "string": "a string",
    "model": "an object",
    "dict": "an object",
}


def _allowed(kind: str, context: Mapping[str, Any]) -> object:
    if "expected" in context:  # pydantic's list of literals, as one string
        return re.findall(r"'([^']*)'", context["expected"]) or context["expected"]
    bounds = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    for name, sign in bounds.items():
        if name in context:
            return f"{sign} {context[name]}"
    if "min_length" in context:
        return f"{context['min_length']} or more items"
    if "max_length" in context:
        return f"at most {context['max_length']} items"
    return context.get("allowed", _TYPES.get(kind.partition("_")[0]))


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI document's entries for the errors that an endpoint may answer."""
    return {
        status: {
            "description": title_of(status),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
        }
        for status in statuses
    }
