"""Numbers given as text, in query strings and forms. They are written as in JSON, but may have leading zeros."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

Kind = Literal["int", "float"]

# Python's int and float would also accept "1_000", " 5", "+5" and "٣".
WRITTEN: dict[Kind, re.Pattern[str]] = {
    "int": re.compile(r"-?[0-9]+"),
    "float": re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"),
}
NAMES: dict[Kind, str] = {"int": "an integer", "float": "a number"}
_LEADING_ZEROS = re.compile(r"^0+(?=[0-9])")


def without_leading_zeros(text: str) -> str:
    """`text` as JSON writes it if it is a number with leading zeros, such as -007; any other text unchanged."""
    if not WRITTEN["float"].fullmatch(text):
        return text
    sign = "-" if text.startswith("-") else ""
    return sign + _LEADING_ZEROS.sub("", text.removeprefix("-"))


def malformed_numbers(fields: Mapping[str, Any], model: type[BaseModel]) -> list[dict[str, Any]]:
    """Errors in pydantic's form, one for each text in `fields` that is not written as the number that `model` needs."""
    kinds = _kinds(model)
    # Most requests give few of the fields.
    if not any(
        name in kinds and isinstance(text, str) and not WRITTEN[kinds[name]].fullmatch(text)
        for name, text in fields.items()
    ):
        return []
    return [
        {
            "type": f"{kind}_text",
            "loc": (name,),
            "msg": f"must be {NAMES[kind]}, written as in JSON",
            "input": fields[name],
        }
        for name, kind in kinds.items()
        if isinstance(fields.get(name), str) and not WRITTEN[kind].fullmatch(fields[name])
    ]


@cache
def _kinds(model: type[BaseModel]) -> dict[str, Kind]:
    """The fields of `model` that can only be numbers."""
    kinds = {name: _kind(field.annotation) for name, field in model.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if kind is not None}


def _kind(annotation: object) -> Kind | None:
    if get_origin(annotation) is Annotated:
        return _kind(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        kinds = {_kind(part) for part in get_args(annotation) if part is not NoneType}
        return kinds.pop() if len(kinds) == 1 else None
    if annotation is int:
        return "int"
    return "float" if annotation is float else None
