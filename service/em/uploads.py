"""A registration request as a form: the clouds are files or JSON, all other fields are text."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel
from starlette.requests import Request

from ..errors import BodyTooLarge, InvalidInput, LatentserveError, MalformedBody
from ..formats.clouds.columns import Columns
from ..formats.clouds.deadline import Deadline
from ..formats.clouds.reading import READ, read_scan
from ..formats.json_numbers import reading
from ..formats.json_numbers.keys import index_of
from ..formats.json_numbers.refusals import INVALID_JSON
from ..web.forms import Part, read_parts
from ..web.json_body import reader
from ..web.json_fields import array_fields
from ..web.json_reduction import read_value
from ..web.json_text import BYTE_ORDER_MARK, refuse_repeated_keys
from ..web.number_text import without_leading_zeros
from ..web.routing import read_timeout
from ..web.threads import on_thread
from .schemas.registration import RegisterRequest

CLOUDS = ("source", "target")
LISTS = ("include",)
# This field chooses columns of both files; `source_columns` and `target_columns` apply to one file.
COLUMNS = "columns"


class Form(NamedTuple):
    """The fields of a form, not yet validated, and warnings about how its files were read."""

    fields: dict[str, Any]
    warnings: tuple[str, ...] = ()
    weight_columns: Mapping[str, str] = MappingProxyType({})
    """The columns of files that have become fields, by the names of these fields."""
    normals: Mapping[str, NDArray[np.float64]] = MappingProxyType({})
    """(N, 3) of the files that have them, by the names of the clouds."""

    @property
    def size(self) -> int:
        """The elements of its arrays, and the items of its lists."""
        return sum(
            value.size if isinstance(value, np.ndarray) else len(value)
            for value in self.fields.values()
            if isinstance(value, (np.ndarray, list))
        )


async def read_form(
    request: Request,
    *,
    max_elements: int,
    clouds: Collection[str] = CLOUDS,
    lists: Collection[str] = LISTS,
) -> Form:
    """The fields of a multipart/form-data body, including unknown ones. A schema validates them later.

    Args:
        request: its media type must be multipart/form-data.
        max_elements: maximum number of coordinates in a cloud, and maximum number of commas in a text.
        clouds: names of the fields that contain clouds. A file in such a field is a cloud in any format that
            `read_cloud` reads, or JSON. Its value is a float64 array (N, D), or the JSON value. The fields `columns`
            and, for the cloud `source`, `source_columns` choose the columns that are coordinates, by name or by
            position counted from 0. A column of weights becomes the field `source_weights`, unless the form has it.
        lists: names of the fields that may occur several times. Each contains values separated by commas, or a JSON
            list.

    Returns:
        The value of each field. A text that is valid JSON, or a number with leading zeros, is parsed; any other text is
        a string. A file in a field that is not a cloud counts as a text.

    Raises:
        MalformedBody: the form or a file is damaged, a text begins as JSON but is invalid, or a JSON key occurs twice.
        InvalidInput: a field is given more than once, a file contains no cloud, the text of a cloud is not JSON, or a
            chosen column does not exist.
        BodyTooLarge: there are more than `max_elements` numbers, or a text is too long besides its numbers.
        Overloaded: the reader of large JSON is not compiled yet.
        UnsupportedMediaType: the body is compressed.
        DeadlineExceeded: the request's deadline passes. It is checked before each field, and during the decompression
            of LAZ.
    """
    parts = await read_parts(request)
    if any(len(part.content) > reading.LARGE_BYTES for part in parts):
        await reader(request)
    deadline = Deadline(read_timeout(request))
    try:
        return await on_thread(_fields, parts, max_elements, clouds, lists, deadline)
    except asyncio.CancelledError:  # the client disconnected; the thread should end soon
        deadline.cancel()
        raise


def content(model: type[BaseModel], clouds: Collection[str] = CLOUDS) -> dict[str, Any]:
    """The OpenAPI entry of a body that is `model`, either as JSON or as a form for `read_form`."""
    properties = {
        name: {
            "type": "string",
            "format": "binary",
            "description": f"a file: {READ}; or JSON",
        }
        if name in clouds
        else {"type": "string", "description": f"{field.description or name}; as JSON, or a word"}
        for name, field in model.model_fields.items()
    }
    for name in (COLUMNS, *(f"{cloud}_{COLUMNS}" for cloud in clouds)):
        of = "files" if name == COLUMNS else f"file {name.removesuffix(f'_{COLUMNS}')}"
        properties[name] = {
            "type": "string",
            "description": f"columns of the {of} that are coordinates: names, or positions counted from 0, separated "
            "by commas or as a JSON list",
        }
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    form = {"type": "object", "required": required, "additionalProperties": False, "properties": properties}
    return {
        "application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}},
        "multipart/form-data": {"schema": form},
    }


def _fields(
    parts: Sequence[Part], max_elements: int, clouds: Collection[str], lists: Collection[str], deadline: Deadline
) -> Form:
    fields: dict[str, Any] = {}
    files: dict[str, Part] = {}
    chosen: dict[str, Columns] = {}
    for name in dict.fromkeys(part.name for part in parts):
        deadline.left()
        given = [part for part in parts if part.name == name]
        pointer = _pointer(name)
        if name in lists:
            fields[name] = [item for part in given for item in _items(_value(part, pointer, max_elements))]
        elif name == COLUMNS or name in {f"{cloud}_{COLUMNS}" for cloud in clouds}:
            items = [item for part in given for item in _items(_value(part, pointer, max_elements))]
            chosen[name] = _columns(items, pointer)
        elif len(given) > 1:
            raise InvalidInput(f"the field is given {len(given)} times", pointer=pointer, allowed="one part")
        elif name in clouds and given[0].filename is not None and not _looks_like_json(given[0].content):
            fields[name] = None  # keeps the place of the field until the columns are known
            files[name] = given[0]
        else:
            fields[name] = _value(given[0], pointer, max_elements, leading_zeros=True)
            if name in clouds and isinstance(fields[name], str):
                raise InvalidInput(
                    "the text is not JSON", pointer=pointer, allowed=f"JSON, or a file: -F {name}=@{name}.csv"
                )
    for name, columns in chosen.items():
        if not files or (name != COLUMNS and name.removesuffix(f"_{COLUMNS}") not in files):
            raise InvalidInput(
                f"{name} chooses columns of a file, and the points are given as JSON",
                pointer=columns.pointer,
                allowed="only for a file that is not JSON",
            )
    warnings: list[str] = []
    columns_of_weights: dict[str, str] = {}
    normals: dict[str, NDArray[np.float64]] = {}
    for name, part in files.items():
        deadline.left()
        of_this = chosen.get(f"{name}_{COLUMNS}", chosen.get(COLUMNS))
        arguments = part.content, part.filename or "", _pointer(name), max_elements, of_this, deadline
        field = f"{name}_weights"
        cloud, weights, directions = read_scan(*arguments, weights=field not in fields)
        fields[name] = cloud.points
        if directions is not None:
            normals[name] = directions
        if weights is not None:
            fields[field], columns_of_weights[field] = weights
        warnings += [f"{name}: {warning}" for warning in cloud.warnings]
    deadline.left()
    return Form(fields, tuple(warnings), columns_of_weights, normals)


def _pointer(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")


def _columns(items: list[object], pointer: str) -> Columns:
    named = [item for item in items if isinstance(item, str) or (isinstance(item, int) and not isinstance(item, bool))]
    if len(named) != len(items) or not named:
        raise InvalidInput(
            "the columns are neither names nor positions", pointer=pointer, allowed="names, or positions counted from 0"
        )
    return Columns(tuple(named), pointer)


def _looks_like_json(content: bytes) -> bool:
    return content[:64].removeprefix(BYTE_ORDER_MARK).lstrip()[:1] == b"["


def _items(value: object) -> list[object]:
    if isinstance(value, str):
        return [item.strip() for item in value.split(",")]
    return value if isinstance(value, list) else [value]


def _value(part: Part, pointer: str, max_elements: int, *, leading_zeros: bool = False) -> Any:
    # A number has at least two bytes of text, and eight bytes of memory. A limit on bytes alone would not bound the
    # memory.
    if len(part.content) > max_elements and reading.count(part.content, b",") > max_elements:
        raise BodyTooLarge(
            "the text has too many elements", pointer=pointer, allowed=f"at most {max_elements} elements"
        )
    if len(part.content) > reading.LARGE_BYTES:
        return _large_value(part, pointer)
    content = part.content.removeprefix(BYTE_ORDER_MARK).strip()
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        if content[:1] in {b"[", b"{"}:
            raise _not_json(str(error), pointer) from None
        text = content.decode(errors="replace")
        number = without_leading_zeros(text) if leading_zeros else text
        return text if number == text else orjson.loads(number)
    try:
        refuse_repeated_keys(content)
    except LatentserveError as error:
        raise _at(error, pointer) from None
    return value


def _large_value(part: Part, pointer: str) -> Any:
    """The value of a large text, whose arrays of numbers are read without the interpreter's lock."""
    content = memoryview(part.content)
    if part.content.startswith(BYTE_ORDER_MARK):
        content = content[len(BYTE_ORDER_MARK) :]
    if bytes(content[:64]).lstrip()[:1] not in {b"[", b"{"}:
        raise BodyTooLarge(
            f"the text has {len(content)} bytes, and is neither an array nor an object in JSON",
            pointer=pointer,
            allowed=f"at most {reading.LARGE_BYTES} bytes",
        )
    wanted = array_fields(RegisterRequest)
    try:
        return read_value(content, wanted, index_of(part.name, wanted))
    except LatentserveError as error:
        raise _at(error, pointer) from None


def _at(error: LatentserveError, pointer: str) -> LatentserveError:
    """The error of a part of a text, as one of the form whose field at `pointer` has the text."""
    if error.detail.startswith(INVALID_JSON):
        return _not_json(error.detail.removeprefix(INVALID_JSON), pointer)
    return type(error)(error.detail, pointer=pointer + error.pointer, allowed=error.allowed)


def _not_json(fault: str, pointer: str) -> MalformedBody:
    return MalformedBody(f"the text begins as JSON and is not valid JSON: {fault}", pointer=pointer)
