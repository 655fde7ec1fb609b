"""Bodies and answers in NumPy's .npz: fields by their names.

A scalar is an array of rank 0, a text a unicode array of rank 0, and a list of texts one of rank 1. The field `matrix`
of an object `init` is the array `init.matrix`. A field whose value would be null is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
from anyio import to_thread
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from numpy.typing import NDArray
from pydantic import ValidationError

from ..errors import BodyTooLarge, InvalidInput
from ..formats.npz import Arrays, read_arrays, write_arrays
from .body import read_body
from .parts import BodyLimits, part
from .routing import Beside, ModelT, read_timeout
from .threads import THREADS

MEDIA_TYPE = "application/x-npz"
# An entry of the OpenAPI document, which cannot describe the arrays.
CONTENT: dict[str, Any] = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}
# More elements are decoded and encoded on a thread: these take about a millisecond.
SMALL = 2**17
# The most elements for each byte of a larger archive. Numbers that are not constant do not come near it.
EXPANSION = 2

Index = tuple[int, ...]


class ArrayBody(NamedTuple):
    """The arrays of a body by their names, and where each that is not finite has its first such number."""

    arrays: dict[str, NDArray[Any]]
    not_finite: dict[str, Index]

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
        InvalidInput: an array has elements that are not numbers, booleans or texts.
        BodyTooLarge: it exceeds the operator's limits.
        DeadlineExceeded: it is not read before the request's deadline.
    """
    body = await read_body(request)
    most = part(request, BodyLimits).elements
    if len(body) <= SMALL * 8:
        # A small archive may be large when it is decompressed.
        with suppress(BodyTooLarge):
            return _decode(body, min(SMALL, most))
    found = await to_thread.run_sync(_decode_large, body, most, limiter=THREADS)
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
    arrays = {name: _plain(name, array) for name, array in read_arrays(body, most).items()}
    indices = {name: index for name, array in arrays.items() if (index := _first_not_finite(array)) is not None}
    return ArrayBody(arrays, indices)


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
    """Raise InvalidInput for numbers that are no characters, and for surrogates, which an answer could not repeat."""
    codes = array.reshape(-1).view(np.uint32)
    if (codes > 0x10FFFF).any() or ((codes >= 0xD800) & (codes < 0xE000)).any():
        raise InvalidInput("the text is not valid unicode", pointer=f"/{name}", allowed="unicode text (dtype U)")


def _first_not_finite(array: NDArray[Any]) -> Index | None:
    """Where the first number that is not finite lies in an array; None for scalars, which the schema checks."""
    if array.dtype.kind != "f" or not array.ndim or np.isfinite(array).all():
        return None
    return tuple(np.argwhere(~np.isfinite(array))[0].tolist())


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
        RequestValidationError: they do not fit `model`, or a number is not finite. The errors that `beside` finds are
            listed too.
    """
    fields = fields_of(body.arrays)
    errors: list[Any] = [not_finite(name, body.arrays[name], index) for name, index in body.not_finite.items()]
    known = {error["loc"][0] for error in errors}
    try:
        found = model.model_validate(fields)
    except ValidationError as error:
        errors += [other for other in error.errors(include_url=False) if not known & {*other["loc"][:1]}]
    if errors:
        raise RequestValidationError([*errors, *(beside(fields, errors) if beside else ())], body=model)
    return found


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
        content = await to_thread.run_sync(lambda: write_arrays(arrays()), limiter=THREADS)
    return Response(content if isinstance(content, bytes) else memoryview(content), media_type=MEDIA_TYPE)
