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
from ..formats.json_numbers.refusals import INVALID_JSON, Text, malformed
from .json_fields import array_fields
from .json_reduction import corrected, insert, reduce
from .json_text import refuse_disallowed, refuse_repeated_keys
from .routing import Beside, ModelT

# Shorter bodies are read by pydantic alone, which takes less time for them.
LEAST_BYTES = 2048


def parse(body: Text, model: type[ModelT], beside: Beside | None = None) -> ModelT:
    """The text as `model`.

    Raises:
        MalformedBody: it is not JSON, one of its objects has a key twice, or it is nested too deep.
        RequestValidationError: it is JSON that does not fit `model`. The errors that `beside` finds are listed too.
        BodyTooLarge: it has too much text besides arrays of numbers, too many keys in one object, or too long a number.
    """
    if len(body) < LEAST_BYTES or not reading.is_ready():
        return parse_whole(body, model, beside)
    reduction = reduce(body, reading.find(body, array_fields(model)))
    if reduction is None:
        return _validated(bytes(body), model, beside)
    tree = insert(reduction)
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        errors = [corrected(known) for known in error.errors(include_url=False)]
        raise _invalid(errors, tree, model, beside) from None


def parse_whole(body: Text, model: type[ModelT], beside: Beside | None = None) -> ModelT:
    """As `parse`, by pydantic alone, which makes objects of all numbers. Meant for short texts."""
    body = bytes(body)
    try:
        found = _validated(body, model, beside)
    except RequestValidationError:
        refuse_disallowed(body)
        raise
    except MalformedBody:
        try:
            refuse_disallowed(body)
        except MalformedBody as error:
            if not error.detail.startswith(INVALID_JSON):
                raise  # it is too deep before the fault
        raise
    refuse_repeated_keys(body)
    return found


def _validated(body: bytes, model: type[ModelT], beside: Beside | None) -> ModelT:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        errors: list[Any] = [*error.errors(include_url=False)]
        if errors[0]["type"] == "json_invalid":
            raise malformed(errors[0]["ctx"]["error"]) from None
        raise _invalid(errors, from_json(body) if beside else None, model, beside) from None


def _invalid(errors: list[Any], tree: object, model: type[ModelT], beside: Beside | None) -> RequestValidationError:
    if beside and isinstance(tree, dict):
        errors = [*errors, *beside(tree, errors)]
    return RequestValidationError(errors, body=model)
