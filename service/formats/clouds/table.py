"""Tables of numbers in text: XYZ, CSV, TXT, PTS."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import orjson

from ..arrays import Float64
from .attributes import without_attributes
from .cloud_file import AXES, CloudFile
from .complaints import not_a_number
from .layout import COUNT, Layout, annotated, find_layout
from .pieces import parts
from .text import HIDDEN, MAX_FIELDS, contains, find_first, is_missing, is_number, lines, parse, split, unquote, with_e

# Separators beside which a comma is a decimal point.
BESIDE_DECIMAL_COMMAS = (";", "\t", "|")
LONE_RETURN = re.compile(rb"\r[^\r\n]")


def read_table(file: CloudFile) -> Float64:
    """The points (N, D) of a table with a row for each point, in the unit of the file.

    Blanks, tabs, commas or semicolons separate the columns. A header, which may be a comment, names the columns.
    Without a header every column is a coordinate, except for the attributes that `without_attributes` finds. A comment
    begins with # or //, or with % at the beginning of a line.

    Raises:
        MalformedBody: a field is not a number, rows differ in length or have more than MAX_FIELDS fields, or a
            declared number of points is wrong.
        InvalidInput: there are no points, coordinates are infinite, or no name is recognised as a coordinate.
        BodyTooLarge: there are more than `max_elements` numbers.
    """
    lone = find_first(LONE_RETURN, file.data, 2) if contains(file.data, b"\r") else None
    if lone is not None:
        number = file.data.count(b"\n", 0, lone) + 1
        raise file.malformed(
            f"line {number} has lone carriage returns among line feeds; end all lines alike", "one kind of line end"
        )
    layout = find_layout(file)
    if layout.width > MAX_FIELDS:
        raise file.malformed(
            f"line {layout.first} has {layout.width} fields; write a line for each point",
            f"at most {MAX_FIELDS} fields in a line",
        )
    use = _coordinates(file, layout)
    # One row more than the limit suffices to refuse the file.
    most = file.max_elements // len(use or range(layout.width)) + 1
    try:
        points = parse(islice(_texts(file, layout, use), most), layout.delimiter, use)
    except ValueError:
        points = _with_missing(file, layout, use, most)
    if layout.header is None and file.columns is None:
        points = without_attributes(file, points)
    return file.points(points)


def _coordinates(file: CloudFile, layout: Layout) -> list[int] | None:
    """The positions of the columns that are read; None is all."""
    header = layout.header
    if header is not None:
        return file.choose(layout.names, f"line {header.line}")
    chosen = file.chosen([], f"line {layout.first}", layout.width, layout.titles)
    return list(range(layout.width)) if chosen is None and layout.trailing else chosen


def _rows(file: CloudFile, layout: Layout) -> Iterator[tuple[int, str]]:
    """The rows of points with the numbers of their lines, without comments and quotes."""
    rows: Iterator[tuple[int, str]]
    if any(contains(file.data, mark) for mark in (b"#", b"//", b"%")):
        rows = ((line.number, line.text) for line in annotated(file, inline=layout.header is None) if line.text)
    else:
        rows = lines(file)
    rows = (row for row in rows if row[0] >= layout.first)
    if contains(file.data, b'"'):
        unquoted = ((number, unquote(row, layout.delimiter)) for number, row in rows)
        rows = ((number, row) for number, row in unquoted if row and not row.isspace())
    return rows if layout.declared is None else _without_counts(file, rows, *layout.declared)


def _without_counts(
    file: CloudFile, rows: Iterable[tuple[int, str]], count: int, line: int
) -> Iterator[tuple[int, str]]:
    """The points of all scans of a PTS file. Raises MalformedBody for a scan of another number of points.

    Args:
        file: for the error.
        rows: the lines with their numbers. A line of one whole number begins a scan of that number of points.
        count: the number of points of the first scan.
        line: the number of the line that declares it.
    """
    found = 0
    for number, row in rows:
        begins = COUNT.fullmatch(row.strip())
        if found == count if begins is None else found < count:
            follow = "more" if begins is None else str(found)
            raise file.malformed(f"line {line} declares {count} points, and {follow} follow", "as many as declared")
        if begins is None:
            found += 1
            yield number, row
        else:
            count, line, found = int(row), number, 0
    if found < count:
        raise file.malformed(f"line {line} declares {count} points, and {found} follow", "as many as declared")


def _texts(file: CloudFile, layout: Layout, use: Sequence[int] | None) -> Iterator[str]:
    """The rows as NumPy reads them."""
    rows: Iterator[str] = (row for _, row in _rows(file, layout))
    if layout.delimiter in BESIDE_DECIMAL_COMMAS and contains(file.data, b","):
        rows = (row.replace(",", ".") for row in rows)
    return rows if use is None else _checked(rows, layout)


def _with_missing(file: CloudFile, layout: Layout, use: list[int] | None, most: int) -> Float64:
    """The table with NaN for words that mean missing, and for empty fields of columns with names.

    Fortran's exponents are read too.
    """
    places = use or list(range(layout.width))
    rows = (split(row, layout.delimiter) for row in _texts(file, layout, places))
    filled = ("\t".join("nan" if _is_missing(field, layout) else with_e(field) for field in row) for row in rows)
    try:
        return parse(islice(filled, most), "\t", places)
    except ValueError:
        raise _complaint(file, layout, use) from None


def _is_missing(field: str, layout: Layout) -> bool:
    return is_missing(field) or (not field and layout.header is not None)


def _checked(rows: Iterable[str], layout: Layout) -> Iterator[str]:
    """The rows. Raises ValueError for a row of another length, which NumPy accepts if columns are chosen."""
    delimiter, count, tail = layout.delimiter, layout.width, (layout.delimiter or "") * layout.trailing
    whole = count + layout.trailing
    for row in rows:
        found = row.count(delimiter) + 1 if delimiter else len(row.split())
        if found != count and (found != whole or not row.endswith(tail)):
            raise ValueError("the rows differ in length")
        yield row


def _complaint(file: CloudFile, layout: Layout, use: Sequence[int] | None) -> Exception:
    """The error of the first row that cannot be read. NumPy counts rows, but users count lines."""
    whole = layout.width + layout.trailing
    for number, row in _rows(file, layout):
        fields = [field.replace(HIDDEN, layout.delimiter or " ") for field in split(row, layout.delimiter)]
        if len(fields) == whole and layout.trailing and not any(fields[layout.width :]):
            fields = fields[: layout.width]
        given = fields
        if layout.delimiter in BESIDE_DECIMAL_COMMAS:
            given = [field.replace(",", ".") for field in fields]
        places = range(len(fields)) if use is None or len(fields) != layout.width else use
        wrong = [
            fields[place] for place in places if not is_number(given[place]) and not _is_missing(given[place], layout)
        ]
        if wrong and (use is None or len(fields) == layout.width):
            # A count, a comment, and atoms whose elements are numbers.
            atoms = layout.width == 1 and layout.header is None and number == layout.first + 1
            return not_a_number(file, number, wrong[0], fields, row, atoms=atoms)
        if len(fields) != layout.width:
            return file.malformed(
                f"line {number} has {len(fields)} values where the first row has {layout.width}",
                f"{layout.width} values in each row",
            )
    return file.malformed("the text is not a table of numbers", "a row of numbers for each point")


def write_csv(points: Float64) -> bytes:
    """The (N, D) points as a header and a line for each point; numbers read back exactly."""
    dimension = points.shape[1]
    names = AXES[:dimension] if dimension <= len(AXES) else [f"x{axis}" for axis in range(dimension)]
    return _text(",".join(names).encode() + b"\n", points, b",")


def write_xyz(points: Float64) -> bytes:
    """The (N, D) points, a line for each, with spaces between numbers, which read back exactly.

    A comment names the columns if there are more than three, because columns without names may be attributes.
    """
    dimension = points.shape[1]
    names = b"# " + b" ".join(b"x%d" % axis for axis in range(dimension)) + b"\n" if dimension > len(AXES) else b""
    return _text(names, points, b" ")


def _text(head: bytes, points: Float64, separator: bytes) -> bytes:
    return b"".join([head, *(_lines(some, separator) for some in parts(points))])


def _lines(points: Float64, separator: bytes) -> bytes:
    # orjson writes the shortest digits that read back exactly, a hundred times faster than Python.
    nested = orjson.dumps(np.ascontiguousarray(points), option=orjson.OPT_SERIALIZE_NUMPY)
    return nested[2:-2].replace(b"],[", b"\n").replace(b",", separator).replace(b"null", b"nan") + b"\n"
