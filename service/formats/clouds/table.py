"""Tables of numbers in text: XYZ, CSV, TXT, and the bodies of ascii PLY and PCD files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import chain, islice

import numpy as np
import orjson

from ..arrays import Float64
from . import coordinates
from .cloud_file import AXES, CloudFile

BOM = b"\xef\xbb\xbf"
COMMENTS = ("#", "//")
# NumPy splits a line before it counts its fields, at 24 bytes a field.
MAX_LINE = 2**20
# Names are taken apart one by one, at some microseconds each.
MAX_NAMES = 2**16


def lines(file: CloudFile, start: int = 0) -> Iterator[tuple[int, str]]:
    """The lines from byte `start` on that are not blank, with their numbers, counted from 1 at `start`.

    Raises:
        MalformedBody: a line is very long.
    """
    stream = io.BytesIO(file.data)
    stream.seek(start)
    for number, raw in enumerate(stream, 1):
        if len(raw) > MAX_LINE:
            raise file.malformed(f"line {number} has {len(raw)} characters; write a line for each point")
        # Latin-1 is one byte a character whatever comes; what is not ASCII can stand in comments and names alone.
        line = raw.decode("latin-1").strip()
        if line:
            yield number, line


def parse(rows: Iterable[str], delimiter: str | None = None, use: list[int] | None = None) -> Float64:
    """Rows of text, none of them blank, as a table of numbers; `delimiter` None is any whitespace.

    Raises:
        ValueError: there are no rows, they differ in length, or something is not a number.
    """
    iterator = iter(rows)
    first = next(iterator, None)
    if first is None:
        raise ValueError("there are no rows")
    return np.loadtxt(chain([first], iterator), np.float64, comments=None, delimiter=delimiter, usecols=use, ndmin=2)


def read_table(file: CloudFile) -> Float64:
    """A row for each point, separated by whitespace, commas or semicolons, with at most one line of names before.

    Names choose the columns that are coordinates; without names every column is a coordinate. What
    follows # or // is a comment.

    Raises:
        MalformedBody: something is not a number, or rows differ in length.
        InvalidInput: there are no points, they are not finite, or no name is recognised as a coordinate.
        BodyTooLarge: there are more than `max_elements` numbers.
    """
    if b"\0" in file.data:
        raise file.invalid(
            "the file is of no format that is read here", "npy, npz, PLY, PCD, or a table of numbers as text"
        )
    data = file.data.removeprefix(BOM)
    if b"\r" in data and b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    file = CloudFile(data.replace(b'"', b""), file.name, file.pointer, file.max_elements)

    rows = _rows(file)
    first = next(rows, None)
    if first is None:
        raise file.invalid("the file holds no points", "a row of coordinates for each point")
    names = _split(first[1], _delimiter(first[1]))
    if any(_is_number(name) for name in names):
        names, second = [], first
    else:
        after = next(rows, None)
        if after is None:
            raise file.invalid(f"the file holds no points, only the line {_shown(first[1])}", "one or more points")
        second = after
    delimiter = _delimiter(second[1])
    columns = len(_split(second[1], delimiter))
    trailing = delimiter is not None and columns > 1 and second[1].endswith(delimiter)
    if trailing:  # a separator at the end of each line makes an empty column
        columns -= 1
        if len(names) == columns + 1 and not names[-1]:
            names.pop()
    if names and len(names) != columns:
        raise file.malformed(f"line {first[0]} names {len(names)} columns and line {second[0]} has {columns}")
    use = _coordinates(file, names, first[0]) if names else None
    try:
        # One row more than may be shows that there are too many; the rest is not worth reading.
        most = islice((row for _, row in rows), file.max_elements // len(use or range(columns)))
        given: Iterator[str] = chain([second[1]], most)
        if trailing:
            given = (row.removesuffix(delimiter or "") for row in given)
        if use:
            given = _checked(given, columns, delimiter)
        table = parse(given, delimiter, use)
    except ValueError:
        raise _complaint(file, columns, delimiter, skip=len(names) > 0, trailing=trailing, use=use) from None
    return file.points(table)


def _coordinates(file: CloudFile, names: list[str], line: int) -> list[int]:
    """The positions of the columns that are coordinates, by their names."""
    listed = ", ".join(_shown(name) for name in names[:20])
    if len(names) > MAX_NAMES:
        raise file.invalid(f"line {line} names {len(names)} columns", f"at most {MAX_NAMES} named columns")
    try:
        return coordinates.recognise([_decoded(name) for name in names]).positions
    except coordinates.Unrecognised as error:
        cure = "" if error.final else "; name the coordinates x, y, z, or remove the names and all other columns"
        raise file.invalid(
            f"line {line} has names that are no coordinates: {error}the columns are {listed}{cure}",
            "x; x and y; or x, y and z",
        ) from None


def _decoded(name: str) -> str:
    try:
        return name.encode("latin-1").decode()
    except UnicodeDecodeError:
        return name


def _checked(rows: Iterable[str], columns: int, delimiter: str | None) -> Iterator[str]:
    """The rows. Raises ValueError for one of another length, which NumPy lets pass where columns are chosen."""
    for row in rows:
        if (row.count(delimiter) + 1 if delimiter else len(row.split())) != columns:
            raise ValueError("the rows differ in length")
        yield row


def _rows(file: CloudFile) -> Iterator[tuple[int, str]]:
    for number, line in lines(file):
        text = line
        for mark in COMMENTS:
            if mark in text:
                text = text.partition(mark)[0].rstrip()
        if text:
            yield number, text


def _delimiter(row: str) -> str | None:
    # A semicolon first: where it separates, a comma is a decimal point, which is then refused by name.
    return next((mark for mark in ";," if mark in row), None)


def _split(row: str, delimiter: str | None) -> list[str]:
    return [field.strip() for field in row.split(delimiter)]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _complaint(
    file: CloudFile, columns: int, delimiter: str | None, *, skip: bool, trailing: bool, use: list[int] | None
) -> Exception:
    """The error of the first row that is not like the others; NumPy names rows where people count lines."""
    rows = _rows(file)
    if skip:
        next(rows)
    for number, row in rows:
        fields = _split(row.removesuffix(delimiter or "") if trailing else row, delimiter)
        read = fields if use is None or len(fields) != columns else [fields[place] for place in use]
        wrong = next((field for field in read if not _is_number(field) or "_" in field), None)
        if wrong is not None:
            return file.malformed(f"line {number}: {_shown(wrong)} is not a number{_cure(wrong, fields, delimiter)}")
        if len(fields) != columns:
            return file.malformed(f"line {number} has {len(fields)} values where the first row has {columns}")
    return file.malformed("the text is no table of numbers")


def _cure(wrong: str, fields: list[str], delimiter: str | None) -> str:
    if not wrong:
        return "; leave no field empty"
    if delimiter == ";" and "," in wrong:
        return "; write decimal points, not commas"
    if len(fields) > 3 and wrong == fields[0] and wrong.isalpha():
        return "; a chemical XYZ file has its elements, a count and a title removed before it is a cloud"
    return ""


def _shown(text: str) -> str:
    return repr(text.encode("latin-1").decode(errors="replace")[:40])


def write_csv(points: Float64) -> bytes:
    """A line of names, then a line for each point; numbers read back exactly."""
    dimension = points.shape[1]
    names = AXES[:dimension] if dimension <= len(AXES) else [f"x{axis}" for axis in range(dimension)]
    return ",".join(names).encode() + b"\n" + _text(points)


def write_xyz(points: Float64) -> bytes:
    """A line for each point, separated by spaces; numbers read back exactly."""
    return _text(points).replace(b",", b" ")


def _text(points: Float64) -> bytes:
    # orjson writes the shortest digits that read back exactly, a hundred times faster than Python.
    nested = orjson.dumps(np.ascontiguousarray(points), option=orjson.OPT_SERIALIZE_NUMPY)
    return nested[2:-2].replace(b"],[", b"\n") + b"\n"
