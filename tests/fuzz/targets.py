"""The readers of files and bodies as fuzz targets. Each takes any bytes and states what holds for all of them.

A reader returns what its docstring promises, or raises an error of the domain's own. Any other exception is a finding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
from fastapi.exceptions import RequestValidationError

from service.em.schemas.registration import RegisterRequest
from service.errors import LatentserveError
from service.formats.clouds.reading import read_weighted
from service.formats.images import decode
from service.formats.json_numbers import reading
from service.formats.npz import read_arrays, write_arrays
from service.web import json_parsing

MAX_ELEMENTS = 10_000
MAX_PIXELS = 64 * 64
# Where the header of a LAS file says that its points are compressed. A process of its own decompresses them, in which a
# fuzzer would find nothing.
_LAS, _POINT_FORMAT = b"LASF", 104


def clouds(data: bytes) -> None:
    """A cloud (N, D) whose points are finite or missing as a whole, and their weights if any; or a refusal."""
    if data.startswith(_LAS) and data[_POINT_FORMAT : _POINT_FORMAT + 1] >= b"\x80":
        return
    try:
        (points, warnings), weights = read_weighted(data, max_elements=MAX_ELEMENTS)
    except LatentserveError:
        return
    assert points.ndim == 2
    assert points.dtype == np.float64
    assert points.flags.carray
    assert 0 < points.size <= MAX_ELEMENTS
    finite = np.isfinite(points).all(1)
    assert finite.any()
    assert np.isnan(points[~finite]).all()
    if weights is not None:
        weights.column.encode()
        assert weights.values.shape == finite.shape
        assert (weights.values[finite] >= 0).all()
        assert 0 < weights.values[finite].max() < np.inf
    for warning in warnings:
        warning.encode()  # an answer can contain it


def images(data: bytes) -> None:
    """Grey levels (H, W) of the declared number of pixels, or a refusal."""
    try:
        levels = decode(data, MAX_PIXELS)
    except LatentserveError as error:
        error.detail.encode()
        return
    assert levels.ndim == 2
    assert levels.dtype == np.uint8
    assert 0 < levels.size <= MAX_PIXELS


def archives(data: bytes) -> None:
    """Arrays that survive being written and read again, or a refusal."""
    try:
        found = read_arrays(data, MAX_ELEMENTS)
    except LatentserveError:
        return
    assert sum(array.size for array in found.values()) <= MAX_ELEMENTS
    again = read_arrays(bytes(write_arrays(found)), MAX_ELEMENTS)
    assert again.keys() == found.keys()
    for name, array in found.items():
        assert array.flags.carray
        assert (again[name].shape, again[name].dtype) == (array.shape, array.dtype)
        assert again[name].tobytes() == array.tobytes()


def numbers(data: bytes) -> None:
    """Compiled code and pydantic alone read the same request, or find the same fault, in any text."""
    reading.warm_up()
    # Also the short texts of a fuzzer are read by the compiled code.
    with mock.patch.multiple(reading, LEAST_BYTES=8), mock.patch.multiple(json_parsing, LEAST_BYTES=1):
        compiled = _outcome(json_parsing.parse, data)
    assert compiled == _outcome(json_parsing.parse_whole, data)


def _outcome(parse: Callable[..., RegisterRequest], data: bytes) -> object:
    try:
        request = parse(data, RegisterRequest)
    except RequestValidationError as error:
        return [(one["type"], _place(one["loc"]), one["msg"]) for one in error.errors()]
    except LatentserveError as error:
        return type(error), error.detail
    return [(name, _comparable(value)) for name, value in vars(request).items()]


def _place(path: Any) -> tuple[Any, ...]:
    return tuple(part for part in path if not str(part).startswith("union:"))


def _comparable(value: Any) -> Any:
    return (value.shape, value.tobytes()) if isinstance(value, np.ndarray) else repr(value)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "clouds": clouds,
    "images": images,
    "archives": archives,
    "numbers": numbers,
}
