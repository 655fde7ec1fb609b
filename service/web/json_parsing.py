"""JSON text to a schema: by pydantic alone, or with the long arrays of numbers read by compiled code.

Both ways give the same instance, or the same error.
"""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic_core import from_json

from ..errors import MalformedBody
from ..formats.json_numbers import reading
from .json_fields import array_fields
from .json_reduction import Reduction, reduce
from .json_text import refuse_repeated_keys
from .routing import Beside, ModelT

# Shorter bodies are read by pydantic alone, which takes less time for them.
LEAST_BYTES = 2048


def parse(body: reading.Text, model: type[ModelT], beside: Beside | None = None) -> ModelT:
    """The text as `model`.

    Raises:
        MalformedBody: it is not JSON, or one of its objects has a key twice.
        RequestValidationError: it is JSON that does not fit `model`. The errors that `beside` finds are listed too.
    """
    fields = array_fields(model) if len(body) >= LEAST_BYTES and reading.is_ready() else None
    if fields is not None:
        reduction = reduce(body, reading.find(body, fields.names), keep_faults=fields.later)
        if reduction is not None:
            return _parse_reduced(reduction, body, model, beside)
    return parse_whole(body, model, beside)


def parse_whole(body: reading.Text, model: type[ModelT], beside: Beside | None = None) -> ModelT:
    """As `parse`, by pydantic alone."""
    body = bytes(body)
    try:
        found = model.model_validate_json(body)
    except ValidationError as error:
        errors: list[Any] = [*error.errors(include_url=False)]
        if errors[0]["type"] == "json_invalid":
            raise _malformed(errors[0]["ctx"]["error"]) from None
        refuse_repeated_keys(body)
        raise _invalid(errors, from_json(body) if beside else None, model, beside) from None
    refuse_repeated_keys(body)
    return found


def _parse_reduced(reduction: Reduction, body: reading.Text, model: type[ModelT], beside: Beside | None) -> ModelT:
    try:
        tree = from_json(reduction.text)
    except ValueError as error:
        message = reduction.message(str(error), body)
        if message is None:  # the fault is not where the reader of numbers found one
            return parse_whole(body, model, beside)
        raise _malformed(message) from None
    if reduction.is_cut:  # the same, without any fault
        return parse_whole(body, model, beside)
    inserted = reduction.insert(tree)
    try:
        found = model.model_validate(tree)
    except ValidationError as error:
        refuse_repeated_keys(reduction.text, inserted.keys)
        errors = [inserted.correct(known) for known in error.errors(include_url=False)]
        raise _invalid(errors, tree, model, beside) from None
    refuse_repeated_keys(reduction.text, inserted.keys)
    return found


def _malformed(message: str) -> MalformedBody:
    return MalformedBody(f"Invalid JSON: {message}", allowed="JSON, as RFC 8259 defines it")


def _invalid(errors: list[Any], tree: object, model: type[ModelT], beside: Beside | None) -> RequestValidationError:
    if beside and isinstance(tree, dict):
        errors = [*errors, *beside(tree, errors)]
    return RequestValidationError(errors, body=model)
