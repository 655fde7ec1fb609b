"""The route class of all endpoints: bodies straight from JSON text into the schema, unknown parameters refused."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from service.errors import MalformedBody, UnsupportedMediaType

ModelT = TypeVar("ModelT", bound=BaseModel)
Handler = Callable[[Request], Coroutine[Any, Any, Response]]

Timeout = Annotated[
    float | None,
    Header(
        alias="X-Timeout-Seconds",
        gt=0,
        le=86400,
        allow_inf_nan=False,
        description="answer 504 when the result is not there after so many seconds; no limit without it",
    ),
]


class _Validated(Request):
    """A request whose JSON body has been turned into its schema already."""

    def __init__(self, request: Request, value: BaseModel) -> None:
        super().__init__(request.scope, request.receive)
        self._value = value

    async def body(self) -> bytes:
        return b"read and validated"

    async def json(self) -> BaseModel:
        return self._value


class StrictRoute(APIRoute):
    """An APIRoute that reads bodies in one go and refuses query parameters that it does not know.

    JSON text goes through pydantic's own parser into the schema, without Python objects in between: half the time
    and memory for large clouds. FastAPI then gets the validated model.
    """

    def get_route_handler(self) -> Handler:
        """FastAPI's handler behind the two checks."""
        handle = super().get_route_handler()
        model = self.body_field.field_info.annotation if self.body_field else None
        known = _query_names(self)

        async def strict(request: Request) -> Response:
            if request.scope["query_string"]:
                refuse_unknown(request.query_params.keys(), known)
            if isinstance(model, type) and issubclass(model, BaseModel):
                request = _Validated(request, await read_json(request, model))
            return await handle(request)

        return strict


async def read_json(request: Request, model: type[ModelT]) -> ModelT:
    """The request's body as `model`.

    Raises:
        UnsupportedMediaType: the body is not declared to be JSON.
        MalformedBody: it is not JSON.
        RequestValidationError: it is JSON of another shape.
    """
    kind = media_type(request)
    if kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedMediaType(
            f"this endpoint reads JSON, and the body came as {kind or 'nothing declared'}; "
            "send it with Content-Type: application/json",
            allowed=["application/json"],
        )
    try:
        return model.model_validate_json(await request.body())
    except ValidationError as error:
        errors = error.errors(include_url=False)
        if errors[0]["type"] == "json_invalid":
            raise MalformedBody(errors[0]["msg"]) from None
        raise RequestValidationError(errors, body=model) from None


def media_type(request: Request) -> str:
    """The body's media type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def refuse_unknown(given: Any, known: list[str]) -> None:
    """Raise a RequestValidationError that names the parameters which do not exist, and those which do."""
    unknown = [name for name in given if name not in known]
    if unknown:
        raise RequestValidationError(
            [
                {
                    "type": "unknown_parameter",
                    "loc": ("query", name),
                    "msg": f"unknown parameter {name!r}",
                    "ctx": {"allowed": known or "no parameters"},
                }
                for name in unknown
            ]
        )


def _query_names(route: APIRoute) -> list[str]:
    names: list[str] = []
    for dependant in (route.dependant, *route.dependant.dependencies):
        for field in dependant.query_params:
            annotation = field.field_info.annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                names += annotation.model_fields
            else:
                names.append(field.alias)
    return sorted(names)
