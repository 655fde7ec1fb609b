"""Clouds in NumPy's .npy and .npz, without pickle; `formats.npy` and `formats.npz` have what requests need too."""

from __future__ import annotations

import re
import zipfile
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import npz
from ..arrays import Float64
from ..npy import MAGIC, MAX_HEADER, declared
from .attributes import without_attributes
from .cloud_file import AXES, CloudFile
from .pieces import read

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")
NAMES = ("points", "xyz")

DESCR = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>|=]?)([fiu])([1248])['"]""")

# A field of a structured array: its name, its type, and how many values it holds.
FIELDS = re.compile(r"""['"]descr['"]\s*:\s*\[""")
FIELD = re.compile(
    r"""\s*\(\s*['"]([^'"]{0,99})['"]\s*,\s*['"]([<>|=]?)([fiubVSU])(\d{1,6})['"]"""
    r"""\s*(?:,\s*\(\s*(\d{1,6})\s*,?\s*\)\s*)?\)\s*,?"""
)
MAX_FIELDS = 1024
# Coordinates of a point of a depth image, an array H x W x 3.
ORGANISED = 3
PLAIN = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"}
# Names of fields whose three values are a point.
VECTORS = {"xyz", "points", "point", "position", "pos", "coordinates", "coords", "location"}


class Field(NamedTuple):
    """One value of each record of a structured array."""

    name: str
    dtype: str | None
    """None for a type that is not a number."""
    offset: int
    """Bytes from the beginning of the record."""


class Header(NamedTuple):
    """What an array's header declares; `start` is the byte at which its values begin."""

    dtype: str
    """The type of a plain array; empty for a structured one."""
    size: int
    """Bytes of an element."""
    fortran: bool
    shape: tuple[int, ...]
    start: int
    fields: tuple[Field, ...] = ()

    @property
    def end(self) -> int:
        """The byte after the last value."""
        return self.start + prod(self.shape) * self.size


def read_npy(file: CloudFile) -> Float64:
    """The points (N, D) of an array of rank 2, floating or integer, or of records with the fields x, y and z.

    An array H x W x 3 is a depth image, whose points are counted row by row.

    Raises:
        MalformedBody: the file is not a .npy file, or its length is not the declared one.
        InvalidInput: the array has another rank or type, or no points, or infinite coordinates.
        BodyTooLarge: there are more than `max_elements` numbers.
    """
    return _points(file, file.data, _header(file, file.data))


def read_npz(file: CloudFile) -> Float64:
    """The points (N, D) of the only array of an archive, of `points` or `xyz`, or of arrays x, y and z of shape (N,).

    Raises:
        MalformedBody: the archive is damaged, encrypted, or compressed in a way that NumPy does not write.
        InvalidInput: the archive has several arrays of other names, or its array is not a cloud.
        BodyTooLarge: there are more than `max_elements` numbers.
    """
    with npz.opened(file.data, file.pointer) as archive:
        members = _choose(file, archive)
        if len(members) == 1:
            return _points(file, *_unpack(file, archive, members[0]))
        return _stack(file, archive, members)


def _choose(file: CloudFile, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    if "[Content_Types].xml" in archive.namelist():
        raise file.invalid(
            "the file is an Office document, such as an Excel workbook; export the table as CSV",
            "an .npz archive, or CSV",
        )
    members = npz.members(archive, file.pointer)
    names = list(members)
    named = [name for name in NAMES if name in members][:1]
    others = [name for name in NAMES if name in members and name not in named]
    if others:
        file.warnings.append(f"the array {named[0]!r} of the archive is read, not {others[0]!r}")
    lower = [name.lower() for name in names]
    if not named and len(members) > 1 and (file.columns is not None or {"x", "y"} <= set(lower)):
        named = [names[place] for place in file.axes(names, "the archive")]
    if not named and len(members) != 1:
        listed = ", ".join(names[:10]) or "none"
        raise file.invalid(
            f"the archive has {len(members)} arrays ({listed})", "one; one named points or xyz; or x, y and z"
        )
    chosen = [members[name] for name in named or names]
    for member in chosen:
        npz.check_member(member, file.pointer)
    return chosen


def _unpack(file: CloudFile, archive: zipfile.ZipFile, member: zipfile.ZipInfo, rank: int = 2) -> tuple[bytes, Header]:
    with archive.open(member) as stream:
        head = stream.read(MAX_HEADER)
        if not head.startswith(MAGIC) and not member.filename.endswith(".npy"):
            raise file.invalid(
                f"the archive holds {member.filename[:60]!r}, no array; send it unpacked",
                "an .npz archive, or the file itself",
            )
        header = _header(file, head, rank)
        # The declared size is checked before decompression. One byte more is read, to detect data after the array.
        return read(stream, head, header.end + 1 - len(head)), header


def _stack(file: CloudFile, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> Float64:
    """The points (N, D) whose columns are arrays of shape (N,)."""
    columns: list[Float64] = []
    for member in members:
        data, header = _unpack(file, archive, member, rank=1)
        file.check_shape(header.shape[0], len(members))
        with np.errstate(all="ignore"):  # a signalling NaN would warn here
            columns.append(_array(file, data, header).astype(np.float64))
        if len(columns[0]) != len(columns[-1]):
            raise file.invalid(
                f"{member.filename!r} has {len(columns[-1])} values and {members[0].filename!r} has {len(columns[0])}",
                "arrays of one length",
            )
    return file.points(np.stack(columns, 1))


def _header(file: CloudFile, data: bytes, rank: int = 2) -> Header:
    text, in_fortran, sizes, end = declared(data, file.pointer)
    descr = DESCR.search(text)
    fields, size = _fields(text)
    if fields and rank == 2:
        if len(sizes) not in {1, 2} or (len(sizes) == 2 and in_fortran):
            raise file.invalid(f"the array of records has the shape {sizes}", "a record for each point")
        file.check_shape(prod(sizes), 1)
        return Header("", size, False, sizes, end, fields)
    if descr is None:
        raise file.invalid(
            f"the array's header is {text.strip()[:100]!r}; its elements are not plain numbers of 1 to 8 bytes",
            "a floating or an integer type, or records with the fields x, y and z",
        )
    order, kind, width = descr.groups()
    if kind + width == "f1":
        raise file.malformed("there is no floating type of one byte")
    if rank == 2 and len(sizes) == 3 and sizes[2] == ORGANISED and min(sizes) > 1 and not in_fortran:
        file.warnings.append(f"the array has the shape {sizes} and is read as a depth image, row by row")
        sizes = sizes[0] * sizes[1], sizes[2]
    if len(sizes) != rank:
        allowed = "N x D, a row for each point" if rank == 2 else "N, a number for each point"
        raise file.invalid(f"the array has the shape {sizes}", allowed)
    file.check_shape(*(*sizes, 1)[:2])
    return Header(order + kind + width, int(width), in_fortran, sizes, end)


def _fields(header: str) -> tuple[tuple[Field, ...], int]:
    """The fields of records and their size in bytes; none where the type is another one."""
    begin = FIELDS.search(header)
    fields: list[Field] = []
    offset = 0
    at = begin.end() if begin else len(header)
    while len(fields) < MAX_FIELDS:
        found = FIELD.match(header, at)
        if found is None:
            break
        name, order, kind, digits, several = found.groups()
        dtype = f"{order}{kind}{digits}" if kind + digits in PLAIN else None
        size = int(digits) * (4 if kind == "U" else 1)
        count = int(several or 1)
        if count == 3 and name.lower() in VECTORS:
            fields += [Field(axis, dtype, offset + place * size) for place, axis in enumerate(AXES)]
        elif name:  # a field without a name is padding
            fields.append(Field(name, dtype if count == 1 else None, offset))
        offset += size * count
        at = found.end()
    whole = header[at : at + 1] == "]" and offset > 0
    return (tuple(fields), offset) if whole else ((), 0)


def _points(file: CloudFile, data: bytes, header: Header) -> Float64:
    if not header.fields:
        values = _array(file, data, header)
        chosen = file.chosen([], "the array", header.shape[1])
        return file.points(without_attributes(file, values) if chosen is None else values[:, chosen])
    axes = file.axes([field.name for field in header.fields], "the array of records")
    if len(axes) == 1 and file.columns is None:
        raise file.invalid("the array of records has x and no y; choose it with columns=", "x and y; or x, y and z")
    count = prod(header.shape)
    file.check_shape(count, len(axes))
    _check_length(file, data, header)
    points = np.empty((count, len(axes)))
    with np.errstate(all="ignore"):  # a signalling NaN would warn here
        for column, axis in enumerate(axes):
            name, dtype, offset = header.fields[axis]
            if dtype is None:
                raise file.invalid(f"the field {name[:60]!r} is not one number", "a floating or an integer type")
            points[:, column] = np.ndarray(count, dtype, data, header.start + offset, header.size)
    return file.points(points)


def _array(file: CloudFile, data: bytes, header: Header) -> NDArray[np.generic]:
    _check_length(file, data, header)
    flat: NDArray[np.generic] = np.frombuffer(data, np.dtype(header.dtype), offset=header.start)
    return flat.reshape(header.shape, order="F" if header.fortran else "C")


def _check_length(file: CloudFile, data: bytes, header: Header) -> None:
    if len(data) != header.end:
        more = "more" if len(data) > header.end else "less"
        raise file.malformed(
            f"there is {more} data than the array's shape {header.shape} and {header.size} bytes an element need",
            f"{header.end} bytes in all",
        )
