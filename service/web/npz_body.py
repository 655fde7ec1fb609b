"""Bodies and answers in NumPy's .npz: fields by their names.

A scalar is an array of rank 0, a text a unicode array of rank 0, and a list of texts one of rank 1. The field `matrix`
of an object `init` is the array `init.matrix`. A field whose value would be null is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from numpy.typing import NDArray
from pydantic import ValidationError

from ..errors import BodyTooLarge, InvalidInput
from ..formats.arrays import UNION_TAG
from ..formats.npz import Arrays, placeholder, read_arrays, write_arrays
from .body import read_body
from .parts import BodyLimits, part
from .problems import as_validation
from .routing import Beside, ModelT, read_timeout
from .threads import on_thread

MEDIA_TYPE = "application/x-npz"
# An entry of the OpenAPI document, which cannot describe the arrays.
CONTENT: dict[str, Any] = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}
# More elements are decoded and encoded on a thread: these take about a millisecond.
SMALL = 2**17
# Texts of an array, of which no field has more than a few, and their bytes.
MAX_TEXTS, MAX_TEXT_BYTES = 64, 1 << 14
# The most elements for each byte of a larger archive. Numbers that are not constant do not come near it.
EXPANSION = 2

Index = tuple[int, ...]


class ArrayBody(NamedTuple):
    """The arrays of a body by their names, and the faults that they have whatever their fields are."""

    arrays: dict[str, NDArray[Any]]
    not_finite: dict[str, Index]
    """Where each array that is not finite has its first such number."""
    refused: Mapping[str, InvalidInput] = MappingProxyType({})
    """The errors of arrays that are not read; each has a placeholder among the arrays."""

    @property
    def size(self) -> int:
        """Number of elements."""
        return sum(array.size for array in self.arrays.values())

    @property
    def is_small(self) -> bool:
        """Whether a pass over the arrays may run on the event loop."""
        return self.size <= SMALL


async def read_npz(request: Request) -> ArrayBody:
    """The arrays of the body, which is declared to be .npz.

    Raises:
        UnsupportedMediaType: it is compressed as a whole.
        MalformedBody: it is no archive of arrays, or is damaged.
        InvalidInput: two arrays have one name, or there are too many arrays.
        BodyTooLarge: it exceeds the operator's limits.
        DeadlineExceeded: it is not read before the request's deadline.
    """
    body = await read_body(request)
    most = part(request, BodyLimits).elements
    if len(body) <= SMALL * 8:
        # A small archive may be large when it is decompressed.
        with suppress(BodyTooLarge):
            return _decode(body, min(SMALL, most))
    found = await on_thread(_decode_large, body, most)
    read_timeout(request)  # the deadline may have passed meanwhile
    return found


def _decode_large(body: bytearray, most: int) -> ArrayBody:
    # The service limits the bytes of all bodies that it holds. Their arrays must not be out of proportion.
    compressed = max(SMALL, EXPANSION * len(body))
    try:
        return _decode(body, min(most, compressed))
    except BodyTooLarge as error:
        if most <= compressed:
            raise
        raise BodyTooLarge(
            "the archive is compressed too much; send it as numpy.savez writes it, not compressed",
            pointer=error.pointer,
            allowed=f"at most {EXPANSION} numbers or characters for each byte",
        ) from None


def _decode(body: bytearray, most: int) -> ArrayBody:
    refused: dict[str, InvalidInput] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, array in read_arrays(body, most, refused).items():
        try:
            arrays[name] = _plain(name, array)
        except InvalidInput as error:
            refused[name], arrays[name] = error, placeholder()
    indices = {name: index for name, array in arrays.items() if (index := _first_not_finite(array)) is not None}
    return ArrayBody(arrays, indices, refused)


def _plain(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """Floating numbers as float64, integers as int64 or uint64; all others as they are."""
    kind = array.dtype.kind
    if kind == "U":
        _check_text(name, array)
        return array
    types = {"f": np.float64, "i": np.int64, "u": np.uint64}
    with np.errstate(all="ignore"):  # a signalling NaN would warn here
        return array.astype(types[kind], copy=False) if kind in types else array


def _check_text(name: str, array: NDArray[Any]) -> None:
    """Raise InvalidInput for many texts, and for long ones, which would become objects; for numbers that are no
    characters; and for surrogates, which an answer could not repeat.
    """
    if array.size > MAX_TEXTS or array.nbytes > MAX_TEXT_BYTES:
        raise InvalidInput(
            f"the array has {array.size} texts of {array.nbytes} bytes; at most {MAX_TEXTS} texts of "
            f"{MAX_TEXT_BYTES} bytes are read",
            pointer=f"/{name}",
            allowed=f"at most {MAX_TEXTS} texts of {MAX_TEXT_BYTES} bytes in all",
        )
    codes = array.reshape(-1).view(np.uint32)
    if (codes > 0x10FFFF).any() or ((codes >= 0xD800) & (codes < 0xE000)).any():
        raise InvalidInput("the text is not valid unicode", pointer=f"/{name}", allowed="unicode text (dtype U)")


def _first_not_finite(array: NDArray[Any]) -> Index | None:
    """Where the first number that is not finite lies in an array; None for scalars, which the schema checks."""
    if array.dtype.kind != "f" or not array.size or not array.ndim:
        return None
    finite = np.isfinite(array)
    first = int(finite.argmin())  # `argwhere` would hold the interpreter's lock
    return None if finite.flat[first] else tuple(int(index) for index in np.unravel_index(first, array.shape))


def fields_of(arrays: Arrays) -> dict[str, Any]:
    """The fields that a schema checks: arrays of numbers in float64, scalars and texts as Python's, objects as dicts.

    Raises InvalidInput if a field is given both as an array and as an object.
    """
    fields: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, last = name.split(".")
        place = fields
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                break
        if not isinstance(place, dict) or last in place:
            raise InvalidInput(
                f"the field {name.partition('.')[0]!r} is given as an array and as an object",
                pointer=f"/{name.partition('.')[0]}",
                allowed="one of the two",
            )
        place[last] = _value(array)
    return fields


def _value(array: NDArray[Any]) -> Any:
    if not array.ndim or array.dtype.kind == "U":
        return array.tolist()
    return array.astype(np.float64, copy=False) if array.dtype.kind in "iuf" else array


def validate(body: ArrayBody, model: type[ModelT], beside: Beside | None = None) -> ModelT:
    """The fields of the body as `model`.

    Raises:
        InvalidInput: a field is given both as an array and as an object.
        RequestValidationError: they do not fit `model`, or an array is refused or has a number that is not finite,
            unless the model names it in its attribute `may_be_infinite`. Unknown and missing fields come first. The
            errors that `beside` finds are listed too.
    """
    fields = fields_of(body.arrays)
    found, errors = None, []
    try:
        found = model.model_validate(fields)
    except ValidationError as error:
        errors = [*error.errors(include_url=False)]
    infinite: tuple[str, ...] = getattr(model, "may_be_infinite", ())
    body = body._replace(not_finite={name: at for name, at in body.not_finite.items() if name not in infinite})
    if found is not None and not body.not_finite and not body.refused:
        return found
    errors = _sorted(body, errors)
    raise RequestValidationError([*errors, *(beside(fields, errors) if beside else ())], body=model)


def _sorted(body: ArrayBody, errors: Sequence[Any]) -> list[Any]:
    """The errors of the names, then those of the numbers and of the schema. A field has errors of one kind only."""
    names = [error for error in errors if error["type"] in _NAMES]
    wrong = {_path(error) for error in names}
    faults = [
        not_finite(name, body.arrays[name], index)
        for name, index in body.not_finite.items()
        if (*name.split("."),) not in wrong
    ]
    known = {error["loc"][0] for error in faults}
    others = [error for error in errors if error["type"] not in _NAMES and not known & {*error["loc"][:1]}]
    # The schema says what a field accepts in place of an array that was refused.
    explained = [_explained(error, body) for error in others]
    reported = {_path(error) for error in explained} | wrong
    unseen = [as_validation(error) for name, error in body.refused.items() if (*name.split("."),) not in reported]
    return [*names, *faults, *explained, *unseen]


def _path(error: Mapping[str, Any]) -> tuple[Any, ...]:
    """Where an error of the schema lies, without the tags of unions."""
    return tuple(part for part in error["loc"] if not str(part).startswith(UNION_TAG))


# Errors of the schema for unknown and missing fields.
_NAMES = frozenset({"extra_forbidden", "missing"})
# Errors of the schema: for a field that is one number, truth value or text, and for an array.
_SCALARS = frozenset({"float_type", "int_type", "bool_type", "string_type", "literal_error", "name"})


def _explained(error: dict[str, Any], body: ArrayBody) -> dict[str, Any]:
    """An error of the schema in the terms of the array that it is about: its type or its shape."""
    name = ".".join(map(str, _path(error)))
    array = body.arrays.get(name)
    if name in body.refused:
        text = body.refused[name].detail
    elif array is not None and array.ndim and error["type"] in _SCALARS:
        text = f"the array has the shape {array.shape}, but this field is a scalar: an array without axes"
    elif array is not None and not array.ndim and error["type"] == "list_type":
        text = "the array has the shape (), but this field has axes"
    else:
        return error
    return error | {"msg": text, "input": None}


def not_finite(name: str, array: NDArray[Any], index: Index) -> dict[str, Any]:
    """The error of one number, in pydantic's form, as for a number of JSON that overflows."""
    return {
        "type": "finite_number",
        "loc": (*name.split("."), *index),
        "msg": "Input should be a finite number",
        "input": array[index].item(),
    }


def flatten(found: Mapping[str, Any], prefix: str = "") -> dict[str, NDArray[Any]]:
    """The fields of an answer as arrays, without those that are None; the inverse of `fields_of`."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, value in found.items():
        if isinstance(value, Mapping):
            arrays |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            arrays[prefix + name] = texts(value)
        elif value is not None:
            arrays[prefix + name] = np.asarray(value)
    return arrays


def texts(values: list[str] | tuple[str, ...]) -> NDArray[np.str_]:
    """Texts as a unicode array (k,), also if there are none."""
    return np.array(values, dtype=np.str_)


async def answer_npz(arrays: Callable[[], Arrays], elements: int) -> Response:
    """An answer with status 200: the result of `arrays` as .npz. It has about `elements` numbers."""
    if elements <= SMALL:
        content = write_arrays(arrays())
    else:
        content = await on_thread(lambda: write_arrays(arrays()))
    return Response(content, media_type=MEDIA_TYPE)
