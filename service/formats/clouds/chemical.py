"""Chemical XYZ: the number of atoms, a comment, and a line for each atom with its element and its coordinates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

from ..arrays import Float64
from .cloud_file import CloudFile
from .text import lines, parse

# The number of blanks is bounded, because a search among very many would hold the interpreter's lock.
BLANKS = rb"[ \t]{0,99}"
END = BLANKS + rb"\r?\n"
NUMBER = rb"[ \t]{1,99}[-+.\deE]{1,40}"
# The count, the comment, and the first atom.
HEAD = re.compile(
    BLANKS
    + rb"\d{1,12}"
    + END
    + rb"[^\r\n]{0,65536}\r?\n"
    + BLANKS
    + rb"[A-Z][A-Za-z]{0,2}(?:"
    + NUMBER
    + rb"){3}(?:\s|\Z)"
)
# The count, a blank line, and four columns that begin with an atomic number.
HEAD_OF_NUMBERS = re.compile(
    BLANKS + rb"\d{1,12}" + END + END + BLANKS + rb"\d{1,3}(?:" + NUMBER + rb"){3}" + BLANKS + rb"(?:\r?\n|\Z)"
)
ATOMIC_NUMBER = re.compile(r"0{0,2}([1-9]\d{0,2})")
HEAVIEST = 118
COUNT = re.compile(r"\s*\d{1,12}\s*")
# The columns of an extended XYZ file, such as Properties=species:S:1:pos:R:3.
PROPERTY = r"\w{1,60}:[A-Za-z]:\d{1,2}"
PROPERTIES = re.compile(rf'Properties="?({PROPERTY}(?::{PROPERTY}){{0,60}})', re.IGNORECASE)


def has_atomic_numbers(file: CloudFile) -> bool:
    """Whether a count, a blank line, and rows of an atomic number and three coordinates are the whole file."""
    if HEAD_OF_NUMBERS.match(file.data) is None:
        return False
    rows = (row.split() for number, row in lines(file) if number > 1)
    # `read_atoms` refuses the count of a further frame.
    return all(
        _is_atomic_number(row[0]) if len(row) == 4 else len(row) == 1 and COUNT.fullmatch(row[0]) is not None
        for row in rows
    )


def _is_atomic_number(field: str) -> bool:
    found = ATOMIC_NUMBER.fullmatch(field)
    return found is not None and int(found[1]) <= HEAVIEST


def read_atoms(file: CloudFile) -> Float64:
    """The coordinates of the atoms, (N, 3), in the file's unit; elements and further columns are ignored.

    Raises:
        MalformedBody: a coordinate is not a number, or the number of atoms is not the declared one.
        InvalidInput: there are no atoms, there are several frames, or coordinates are infinite.
        BodyTooLarge: there are more than `max_elements` numbers.
    """
    stream = lines(file)
    count = int(next(stream)[1])
    file.check_shape(count, 3)
    number, comment = next(stream)
    if number > 2:  # the comment is blank
        stream, comment = chain([(number, comment)], stream), ""
    first = _first_column(comment)
    try:
        return file.points(parse(_atoms(file, stream, count), use=[first, first + 1, first + 2]))
    except ValueError as error:
        raise file.malformed(f"the atoms cannot be read: {error}", "an element and x, y and z in each line") from None


def _atoms(file: CloudFile, rows: Iterable[tuple[int, str]], count: int) -> Iterator[str]:
    """The rows. Raises if there are not `count` of them."""
    found = 0
    for number, row in rows:
        if found == count:
            if COUNT.fullmatch(row):
                raise file.invalid(f"line {number} begins another frame; send one frame", "one frame")
            raise file.malformed(f"line 1 declares {count} atoms, and more follow", "as many atoms as line 1 declares")
        found += 1
        yield row
    if found != count:
        raise file.malformed(f"line 1 declares {count} atoms, and {found} follow", "as many atoms as line 1 declares")


def _first_column(comment: str) -> int:
    """The position of x, counted from 0, as the comment of an extended XYZ file declares it; else 1."""
    found = PROPERTIES.search(comment)
    fields = found[1].split(":") if found else []
    position = 0
    for name, size in zip(fields[0::3], fields[2::3], strict=True):
        if name.lower() == "pos" and size == "3":
            return position
        position += int(size)
    return 1
