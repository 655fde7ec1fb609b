"""A registration's request as a form: files or JSON for the clouds, text for everything else."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import orjson
from anyio import to_thread
from pydantic import BaseModel
from starlette.requests import Request

from ..errors import BodyTooLarge, InvalidInput, MalformedBody
from ..formats.clouds.columns import Columns
from ..formats.clouds.reading import read_cloud
from ..web.forms import Part, read_parts
from ..web.json_text import BYTE_ORDER_MARK, refuse_repeated_keys
from ..web.threads import THREADS

CLOUDS = ("source", "target")
LISTS = ("include",)
# The field that chooses columns of both files; `source_columns` and `target_columns` choose those of one.
COLUMNS = "columns"


class Form(NamedTuple):
    """The fields of a form, for a schema to validate, and warnings about how its files were read."""

    fields: dict[str, Any]
    warnings: tuple[str, ...] = ()


async def read_form(
    request: Request,
    *,
    max_elements: int,
    clouds: Collection[str] = CLOUDS,
    lists: Collection[str] = LISTS,
) -> Form:
    """The fields of a multipart/form-data body, for a schema to validate. Unknown fields are passed on to it.

    Args:
        request: its media type has to be multipart/form-data.
        max_elements: maximum numbers of a cloud, and maximum commas of a text.
        clouds: fields whose files are clouds in any format that `read_cloud` knows, or JSON. Their value is then a
            float64 array (N, D), or the value of the JSON. The fields `columns` and, for a cloud `source`,
            `source_columns` choose the columns that are its coordinates, by name or by position counted from 0.
        lists: fields that may be given several times, as values separated by commas, or as a JSON list.

    Returns:
        The value of each field. A text that is valid JSON has its value as JSON; any other text is a string. A file in
        a field that is not a cloud counts as a text.

    Raises:
        MalformedBody: the form, a file, or a text that begins as JSON breaks its grammar, or a JSON key occurs twice.
        InvalidInput: a field is given more than once, a file has no cloud, or a chosen column does not exist.
        BodyTooLarge: there are more than `max_elements` numbers.
        UnsupportedMediaType: the body is compressed.
    """
    parts = await read_parts(request)
    return await to_thread.run_sync(_fields, parts, max_elements, clouds, lists, limiter=THREADS)


def content(model: type[BaseModel], clouds: Collection[str] = CLOUDS) -> dict[str, Any]:
    """The OpenAPI document's entry for a body that is `model` as JSON, or as a form that `read_form` reads."""
    properties = {
        name: {
            "type": "string",
            "format": "binary",
            "description": "a file: npy, npz, PLY, PCD, LAS, XYZ, CSV and others; or JSON",
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


def _fields(parts: Sequence[Part], max_elements: int, clouds: Collection[str], lists: Collection[str]) -> Form:
    fields: dict[str, Any] = {}
    files: dict[str, Part] = {}
    chosen: dict[str, Columns] = {}
    for name in dict.fromkeys(part.name for part in parts):
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
            fields[name] = _value(given[0], pointer, max_elements)
    for name, columns in chosen.items():
        if not files or (name != COLUMNS and name.removesuffix(f"_{COLUMNS}") not in files):
            raise InvalidInput(
                f"{name} chooses columns of a file, and the points are given as JSON",
                pointer=columns.pointer,
                allowed="with a file that is no JSON",
            )
    warnings: list[str] = []
    for name, part in files.items():
        of_this = chosen.get(f"{name}_{COLUMNS}", chosen.get(COLUMNS))
        cloud = read_cloud(part.content, part.filename or "", _pointer(name), max_elements, of_this)
        fields[name] = cloud.points
        warnings += [f"{name}: {warning}" for warning in cloud.warnings]
    return Form(fields, tuple(warnings))


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


def _value(part: Part, pointer: str, max_elements: int) -> Any:
    # A number has at least two bytes of text, and up to a hundred bytes of memory while it is read. A limit on bytes
    # alone would not bound the memory.
    if len(part.content) > max_elements and part.content.count(b",") > max_elements:
        raise BodyTooLarge(
            "the text has too many elements", pointer=pointer, allowed=f"at most {max_elements} elements"
        )
    content = part.content.removeprefix(BYTE_ORDER_MARK).strip()
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        if content[:1] in {b"[", b"{"}:
            raise MalformedBody(f"the text begins as JSON and is not valid JSON: {error}", pointer=pointer) from None
        return content.decode(errors="replace")
    try:
        refuse_repeated_keys(content)
    except MalformedBody as error:
        raise MalformedBody(error.detail, pointer=pointer + error.pointer, allowed=error.allowed) from None
    return value
