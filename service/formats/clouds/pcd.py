"""PCD, the Point Cloud Library's format: ascii, binary and binary_compressed."""

from __future__ import annotations

import re
from itertools import islice
from math import prod
from typing import NamedTuple

import numpy as np

from ..arrays import Float64
from . import text
from .cloud_file import AXES, CloudFile
from .lzf import decompress
from .pieces import binary, copied

MAX_HEADER = 2**16
# Bytes that are decompressed for each number that a cloud may have. Other fields may precede the coordinates.
UNPACKED_BYTES_PER_ELEMENT = 32
COUNT = re.compile(r"\d{1,18}")
ENCODINGS = ["ascii", "binary", "binary_compressed"]
WHOLE = "as many points as the header declares"
FIRST_WORDS = {b"VERSION", b"FIELDS", b"COLUMNS"}
KEYWORDS = {"VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA"}
TYPES = {
    ("F", 4): "<f4", ("F", 8): "<f8",
    ("I", 1): "<i1", ("I", 2): "<i2", ("I", 4): "<i4", ("I", 8): "<i8",
    ("U", 1): "<u1", ("U", 2): "<u2", ("U", 4): "<u4", ("U", 8): "<u8",
}  # fmt: skip


class Header(NamedTuple):
    """The declared fields and number of points, and the encoding and the first byte of their values."""

    names: list[str]
    types: list[str]
    sizes: list[int]
    counts: list[int]
    points: int
    data: str
    start: int


def is_pcd(data: bytes) -> bool:
    """Whether the first line that is not a comment begins a PCD header."""
    for line in data[:MAX_HEADER].splitlines():
        words = line.split()
        if words and not words[0].startswith(b"#"):
            return words[0] in FIRST_WORDS
    return False


def read_pcd(file: CloudFile) -> Float64:
    """The points (N, D), D <= 3, from the fields x, y and z, or from the chosen fields. y and z may be missing.

    Raises:
        MalformedBody: the header breaks the grammar, or the body is shorter than it declares.
        InvalidInput: there are no coordinates, or some are infinite.
        BodyTooLarge: there are more than `max_elements` numbers.
    """
    header = _header(file)
    kinds = zip(header.counts, header.types, header.sizes, strict=True)
    numbers = [count == 1 and (kind, size) in TYPES for count, kind, size in kinds]
    axes = file.axes(header.names, "the PCD file", numbers, normals=True)
    file.check_shape(header.points, len(axes))
    for axis in axes:
        if header.counts[axis] == 0:
            raise file.malformed(
                f"the PCD field {header.names[axis]} has COUNT 0, which leaves no coordinate", "COUNT 1"
            )
        if header.counts[axis] != 1 or (header.types[axis], header.sizes[axis]) not in TYPES:
            given = f"{header.counts[axis]} of type {header.types[axis]} and size {header.sizes[axis]}"
            raise file.invalid(
                f"the PCD field {header.names[axis]} is {given}", "one value of F4, F8, I1 to I8 or U1 to U8"
            )
    if header.data == "ascii":
        return _ascii(file, header, axes)
    widths = [size * count for size, count in zip(header.sizes, header.counts, strict=True)]
    offsets = np.cumsum([0, *widths], dtype=object).tolist()
    if header.data == "binary":
        there = (len(file.data) - header.start) // offsets[-1]
        if there < header.points:
            raise file.malformed(
                f"the PCD header declares {header.points} points, and the file has {there} of them", WHOLE
            )
        file.warn_of_rest(header.start + header.points * offsets[-1], f"the PCD header declares {header.points} points")
        starts = [header.start + offsets[axis] for axis in axes]
        return _gather(file, header, axes, file.data, starts, offsets[-1])
    # Compressed values are stored field by field, so the fields after the coordinates need not be decompressed.
    wanted = header.points * max(offsets[axis + 1] for axis in axes)
    unpacked = _unpack(file, header.start, wanted, header.points * offsets[-1])
    return _gather(file, header, axes, unpacked, [header.points * offsets[axis] for axis in axes], None)


def _header(file: CloudFile) -> Header:
    found: dict[str, list[str]] = {}
    at = 0
    while "DATA" not in found:
        end = file.data.find(b"\n", at, MAX_HEADER)
        if end < 0:
            raise file.malformed(f"the PCD header has no line DATA in its first {MAX_HEADER} bytes", ENCODINGS)
        words = file.data[at:end].decode("latin-1").split()
        at = end + 1
        if words and not words[0].startswith("#"):
            keyword = "FIELDS" if words[0] == "COLUMNS" else words[0]
            if keyword not in KEYWORDS:
                raise file.malformed(f"the PCD header has the line {' '.join(words)[:80]!r}", sorted(KEYWORDS))
            found[keyword] = words[1:]

    names = found.get("FIELDS", [])
    sizes, counts = _numbers(file, found, "SIZE"), _numbers(file, found, "COUNT") or [1] * len(names)
    types = found.get("TYPE", [])
    if not names or not len(names) == len(sizes) == len(types) == len(counts) or not all(sizes):
        raise file.malformed(
            "the PCD header needs FIELDS, and a SIZE, a TYPE and a COUNT for each of them",
            "as many of SIZE, TYPE and COUNT as FIELDS",
        )
    points, width, height = (_numbers(file, found, keyword) for keyword in ("POINTS", "WIDTH", "HEIGHT"))
    count = (points or [prod(width + height)])[0]
    if max(map(len, (points, width, height))) > 1 or not points + width or (width and prod(width + height) != count):
        raise file.malformed(
            "the PCD header needs WIDTH and HEIGHT, whose product is POINTS", "WIDTH times HEIGHT equal to POINTS"
        )
    data = " ".join(found["DATA"]).lower()
    if data not in ENCODINGS:
        raise file.malformed(
            f"the PCD header has DATA {data[:40]!r}; ascii, binary and binary_compressed are read", ENCODINGS
        )
    return Header(names, types, sizes, counts, count, data, at)


def _numbers(file: CloudFile, found: dict[str, list[str]], keyword: str) -> list[int]:
    words = found.get(keyword, [])
    if not all(COUNT.fullmatch(word) for word in words):
        raise file.malformed(
            f"the PCD header has {keyword} {' '.join(words)[:80]!r}; it takes whole numbers", "whole numbers"
        )
    return [int(word) for word in words]


def _ascii(file: CloudFile, header: Header, axes: list[int]) -> Float64:
    try:
        # One line more than declared suffices to refuse the file.
        values = text.parse(islice((line for _, line in text.lines(file, header.start)), header.points + 1))
    except ValueError as error:
        raise file.malformed(
            f"the PCD file's points cannot be read: {error}", "a line of numbers for each point"
        ) from None
    columns = sum(header.counts)
    if values.shape != (header.points, columns):
        raise file.malformed(
            f"the PCD header declares {header.points} points of {columns} values, "
            f"and the file has {'more' if len(values) > header.points else len(values)} of {values.shape[1]}",
            WHOLE,
        )
    return file.points(values[:, [sum(header.counts[:axis]) for axis in axes]])


def _unpack(file: CloudFile, start: int, wanted: int, whole: int) -> bytearray:
    if wanted > file.max_elements * UNPACKED_BYTES_PER_ELEMENT:
        raise file.too_large(f"the PCD file's coordinates begin within its first {wanted} bytes when unpacked")
    packed, unpacked = (int.from_bytes(file.data[at : at + 4], "little") for at in (start, start + 4))
    body = copied(file.data, start + 8, start + 8 + packed)
    if unpacked != whole or len(body) != packed or not packed:
        raise file.malformed(
            f"the PCD file declares {packed} bytes that unpack to {unpacked}, where it has {len(body)} "
            f"and the header's points need {whole}",
            WHOLE,
        )
    try:
        out = decompress(body, wanted)
    except ValueError as error:
        raise file.malformed(f"the PCD file's compressed data is damaged: {error}") from None
    if len(out) < wanted:
        raise file.malformed(f"the PCD file's compressed data ends after {len(out)} of {wanted} bytes")
    return out


def _gather(
    file: CloudFile, header: Header, axes: list[int], data: bytes | bytearray, starts: list[int], stride: int | None
) -> Float64:
    points = np.empty((header.points, len(axes)))
    with np.errstate(all="ignore"):  # a signalling NaN would warn here; `points` handles values that are not finite
        for column, (axis, start) in enumerate(zip(axes, starts, strict=True)):
            dtype = np.dtype(TYPES[header.types[axis], header.sizes[axis]])
            points[:, column] = np.ndarray(header.points, dtype, data, start, stride or dtype.itemsize)
    return file.points(points)


def write_pcd(points: Float64) -> bytes:
    """The (N, D) points in binary, with fields of 8 bytes; D is at most 3."""
    count, dimension = points.shape
    header = (
        f"# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS {' '.join(AXES[:dimension])}\n"
        f"SIZE{' 8' * dimension}\nTYPE{' F' * dimension}\nCOUNT{' 1' * dimension}\nWIDTH {count}\nHEIGHT 1\n"
        f"VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA binary\n"
    )
    return binary(header.encode(), points)
