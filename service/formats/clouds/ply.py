"""The vertices of PLY, the polygon file format: ascii, and binary in both byte orders."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np

from ...errors import LatentserveError
from ..arrays import Float64
from . import text
from .cloud_file import AXES, CloudFile
from .pieces import binary

MAGIC = re.compile(rb"ply[ \t]*(\r\n|\n|\r)")
END = rb"[\r\n]end_header[ \t]*"
MAX_HEADER = 2**16
WHOLE = "as many rows and values as the header declares"
COUNT = re.compile(r"\d{1,18}")
# Maximum values and lists of an element with lists, which is read row by row.
MAX_WALKED = 2**21
# The same for elements after the vertices, which are walked only for a warning.
MAX_EXAMINED = 2**16

TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "int64": "i8", "uint64": "u8",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
CODES = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "i8": "q", "u8": "Q"}
FLOATS = {"f4": "f", "f8": "d"}
ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


class Property(NamedTuple):
    """A value of a row; or a list of values, whose length has the type `counted_by`."""

    name: str
    kind: str
    counted_by: str | None = None

    @property
    def size(self) -> int:
        """Bytes of a value."""
        return int(self.kind[1])


class Element(NamedTuple):
    """An element of the file: `count` rows of these properties."""

    name: str
    rows: int
    properties: list[Property]


def read_ply(file: CloudFile) -> Float64:
    """The points (N, D), D <= 3, from x, y and z of the element `vertex`, or from the chosen properties.

    y and z may be missing. Other properties and elements are ignored.

    Raises:
        MalformedBody: the header breaks the grammar, or the body is shorter than it declares.
        InvalidInput: there are no vertices with coordinates, or some are infinite.
        BodyTooLarge: there are more than `max_elements` numbers.
    """
    magic = MAGIC.match(file.data)
    # The line end of the first line also ends the header. After a lone \r, a \n is the first byte of the vertices.
    end = re.compile(END + magic[1]).search(file.data, 0, MAX_HEADER) if magic else None
    if end is None:
        raise file.malformed(f"the PLY header has no end_header in its first {MAX_HEADER} bytes", "a line end_header")
    order, elements = _header(file, file.data[: end.start()].decode("latin-1"))
    names = [element.name for element in elements]
    if "vertex" not in names:
        raise file.invalid(f"the PLY file has no element vertex; it has {', '.join(names[:10]) or 'none'}")
    at = names.index("vertex")
    before, vertex, after = elements[:at], elements[at], elements[at + 1 :]
    numbers = [item.counted_by is None for item in vertex.properties]
    axes = file.axes([item.name for item in vertex.properties], "the PLY file's element vertex", numbers, normals=True)
    lists = [vertex.properties[axis].name for axis in axes if vertex.properties[axis].counted_by]
    if lists:
        raise file.invalid(f"the vertices of the PLY file have a list, {lists[0]}, as a coordinate", "plain values")
    file.check_shape(vertex.rows, len(axes))
    if order:
        return _binary(file, end.end(), order, before, vertex, axes, after)
    if magic and magic[1] == b"\r":
        file = replace(file, data=text.with_line_feeds(file.data))
    return _ascii(file, end.end(), before, vertex, axes, after)


def _header(file: CloudFile, header: str) -> tuple[str, list[Element]]:
    order: str | None = None
    elements: list[Element] = []
    for line in header.splitlines()[1:]:
        match line.split():
            case [] | ["comment" | "obj_info", *_]:
                pass
            case ["format", name, "1.0"] if name in ORDERS:
                order = ORDERS[name]
            case ["element", name, count] if COUNT.fullmatch(count):
                elements.append(Element(name, int(count), []))
            case ["property", kind, name] if kind in TYPES and elements:
                elements[-1].properties.append(Property(name, TYPES[kind]))
            case ["property", "list", counter, kind, name] if (
                kind in TYPES and TYPES.get(counter) in CODES and elements
            ):
                elements[-1].properties.append(Property(name, TYPES[kind], TYPES[counter]))
            case _:
                raise file.malformed(
                    f"the PLY header has the line {line[:80]!r}", "format, element, property, comment and obj_info"
                )
    if order is None:
        raise file.malformed(
            "the PLY header names no format: ascii, binary_little_endian or binary_big_endian 1.0", list(ORDERS)
        )
    return order, elements


def _ascii(
    file: CloudFile, start: int, before: list[Element], vertex: Element, axes: list[int], after: list[Element]
) -> Float64:
    skipped = sum(element.rows for element in before if element.properties)
    if skipped + vertex.rows > len(file.data):  # a row has at least one byte
        raise file.malformed(f"the PLY header declares {vertex.rows} vertices and the file ends before them", WHOLE)
    _warn_of_lines(file, start, [*before, vertex, *after], vertex)
    rows = islice((line for _, line in text.lines(file, start)), skipped, skipped + vertex.rows)
    if any(item.counted_by for item in vertex.properties):
        return _ascii_with_lists(file, rows, vertex, axes)
    try:
        values = text.parse(rows)
    except ValueError as error:
        raise file.malformed(f"the PLY file's vertices cannot be read: {error}", WHOLE) from None
    if values.shape != (vertex.rows, len(vertex.properties)):
        raise file.malformed(
            f"the PLY header declares {vertex.rows} vertices of {len(vertex.properties)} values, "
            f"and the file has {len(values)} of {values.shape[1]}",
            WHOLE,
        )
    return file.points(values[:, axes])


def _warn_of_lines(file: CloudFile, start: int, elements: list[Element], vertex: Element) -> None:
    """Warn of lines that no element of an ascii file explains."""
    declared = sum(element.rows for element in elements if element.properties)
    found, blank = 0, True
    for piece in text.pieces_of_lines(file.data, start):
        blank = blank and piece.isspace()
        if piece.endswith(b"\n"):
            found, blank = found + (not blank), True
    found += not blank
    if found > declared:
        file.warnings.append(
            f"the PLY header declares {vertex.rows} vertices, and {found - declared} lines at the end are not read"
        )


def _ascii_with_lists(file: CloudFile, rows: Iterator[str], vertex: Element, axes: list[int]) -> Float64:
    points = np.empty((vertex.rows, len(axes)))
    count = 0
    for row in rows:
        fields = row.split()
        places, at = [], 0
        try:
            for item in vertex.properties:
                places.append(at)
                at += 1 + (int(fields[at]) if item.counted_by else 0)
                if at <= places[-1]:
                    raise ValueError(f"a list has {fields[places[-1]]} items")
            if at != len(fields):
                raise ValueError(f"{len(fields)} values in place of {at}")
            points[count] = [float(fields[places[axis]]) for axis in axes]
        except (ValueError, IndexError) as error:
            raise file.malformed(f"vertex {count} of the PLY file cannot be read: {error}", WHOLE) from None
        count += 1
    if count != vertex.rows:
        raise file.malformed(f"the PLY header declares {vertex.rows} vertices, and the file has {count} of them", WHOLE)
    return file.points(points)


def _binary(
    file: CloudFile,
    at: int,
    order: str,
    before: list[Element],
    vertex: Element,
    axes: list[int],
    after: list[Element],
) -> Float64:
    for element in before:
        at = _skip(file, at, order, element)
    if any(item.counted_by for item in vertex.properties):
        points, at = _binary_with_lists(file, at, order, vertex, axes)
        _warn_of_bytes(file, at, order, vertex, after)
        return file.points(points)
    offsets = np.cumsum([0, *(item.size for item in vertex.properties)]).tolist()
    size = offsets[-1]
    there = max(len(file.data) - at, 0) // size
    if there < vertex.rows:
        raise file.malformed(
            f"the PLY header declares {vertex.rows} vertices of {size} bytes, and the file has {there} of them",
            WHOLE,
        )
    _warn_of_bytes(file, at + vertex.rows * size, order, vertex, after)
    points = np.empty((vertex.rows, len(axes)))
    with np.errstate(all="ignore"):  # a signalling NaN would warn here; `points` handles values that are not finite
        for column, axis in enumerate(axes):
            dtype = order + vertex.properties[axis].kind
            points[:, column] = np.ndarray(vertex.rows, dtype, file.data, at + offsets[axis], size)
    return file.points(points)


def _warn_of_bytes(file: CloudFile, at: int, order: str, vertex: Element, after: list[Element]) -> None:
    """Warn of bytes that no element of a binary file explains; `at` is the byte after the vertices.

    Elements after the vertices are not needed, so damage in them is no error. Large ones with lists are not examined.
    """
    walked = sum(
        element.rows * len(element.properties)
        for element in after
        if any(item.counted_by for item in element.properties)
    )
    if walked > MAX_EXAMINED:
        return
    try:
        for element in after:
            at = _skip(file, at, order, element)
    except LatentserveError:
        return
    file.warn_of_rest(at, f"the PLY header declares {vertex.rows} vertices")


def _binary_with_lists(file: CloudFile, at: int, order: str, vertex: Element, axes: list[int]) -> tuple[Float64, int]:
    """The coordinates of the vertices, and the byte after them."""
    readers = [struct.Struct(order + FLOATS.get(kind, CODES.get(kind, ""))) for _, kind, _ in vertex.properties]
    points = np.empty((vertex.rows, len(axes)))
    try:
        for row, places in enumerate(_walk(file, at, order, vertex)):
            at = places[-1]
            for column, axis in enumerate(axes):
                (points[row, column],) = readers[axis].unpack_from(file.data, places[axis])
    except struct.error:
        raise file.malformed("the PLY file ends within its element vertex", WHOLE) from None
    return points, at


def _skip(file: CloudFile, at: int, order: str, element: Element) -> int:
    """The byte after an element that begins at byte `at`."""
    if not any(item.counted_by for item in element.properties):
        return at + element.rows * sum(item.size for item in element.properties)
    for places in _walk(file, at, order, element):
        at = places[-1]
    return at


def _walk(file: CloudFile, at: int, order: str, element: Element) -> Iterator[list[int]]:
    """For each row of an element with lists, the first byte of each property and the byte after the row."""
    if element.rows * len(element.properties) > MAX_WALKED:
        raise file.invalid(
            f"the PLY file has {element.rows} rows of {element.name} with lists; write {element.name} without lists, "
            "or the element vertex first",
            f"at most {MAX_WALKED} values and lists up to the last vertex",
        )
    steps = [
        (struct.Struct(order + CODES[item.counted_by]) if item.counted_by else None, item.size)
        for item in element.properties
    ]
    try:
        for _ in range(element.rows):
            places = []
            for counter, size in steps:
                places.append(at)
                if counter is None:
                    at += size
                else:
                    (length,) = counter.unpack_from(file.data, at)
                    if length < 0:
                        raise file.malformed(f"a list in the PLY file's element {element.name} has {length} items")
                    at += counter.size + length * size
            places.append(at)
            if at > len(file.data):
                raise file.malformed(f"the PLY file ends within its element {element.name}", WHOLE)
            yield places
    except (struct.error, OverflowError):
        raise file.malformed(f"the PLY file ends within its element {element.name}", WHOLE) from None


def write_ply(points: Float64) -> bytes:
    """The (N, D) points as little-endian doubles; D is at most 3."""
    count, dimension = points.shape
    names = "".join(f"property double {axis}\n" for axis in AXES[:dimension])
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n{names}end_header\n"
    return binary(header.encode(), points)
