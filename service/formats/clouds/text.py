"""Lines and fields of text files, in any encoding and with any separator."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain, islice

import numpy as np

from ..arrays import Float64
from .cloud_file import CloudFile

BOM = b"\xef\xbb\xbf"
UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
# Bytes that are searched, or copied, in one call; and bytes in which each character may be changed.
_PART, _SHORT_PART = 2**20, 2**16
_LINE_FEEDS = bytes.maketrans(b"\r", b"\n")
# NumPy splits a line before it counts its fields, at 24 bytes a field. It reads a row in one call, which holds the
# interpreter's lock for a sixth of a microsecond per field.
MAX_LINE, MAX_FIELDS = 2**20, 2**17
# Rows that NumPy reads in one call, and their numbers in its errors.
PARSED_ROWS = 2**16
ROW = re.compile(r"\brow (\d+)")

QUOTED = re.compile(r'"([^"]*)"')
# Replaces a separator inside quotes. It cannot occur otherwise, because text with NUL bytes is refused.
HIDDEN = "\0"
# A unit in brackets belongs to the name before it: `x (um) y (um)` are two names.
SPACED_NAMES = re.compile(r'"[^"]*"|[^\s(\[]{0,200}\s?[(\[][^()\[\]]{0,40}[)\]]|\S+')
# A number with the exponent of Fortran's double precision.
FORTRAN = re.compile(r"[+-]?(?:\d{1,40}\.?\d{0,40}|\.\d{1,40})[dD][+-]\d{1,3}")
# U+2212 before digits, as word processors and typesetters write a minus sign.
MINUS_SIGN = b"\xe2\x88\x92"
MINUS = re.compile(MINUS_SIGN + rb"(?=[\d.])")
# Words that tools write for a missing number.
MISSING = frozenset(
    {"nan", "-nan", "+nan", "-nan(ind)", "nan(ind)", "1.#qnan", "-1.#ind", "1.#ind", "na", "n/a", "#n/a"}
    | {"null", "none", "<na>"}
)


def without_bom(data: bytes) -> bytes:
    """The text without its byte order mark, copied part by part: one copy would hold the interpreter's lock."""
    if not data.startswith(BOM):
        return data
    return b"".join(data[start : start + _PART] for start in range(len(BOM), len(data), _PART))


def contains(data: bytes, mark: bytes) -> bool:
    """Whether `mark` occurs, searched part by part: one search of a large file would hold the interpreter's lock."""
    parts = range(0, len(data), _PART)
    return any(data.find(mark, start, start + _PART + len(mark) - 1) >= 0 for start in parts)


def find_first(pattern: re.Pattern[bytes], data: bytes, length: int) -> int | None:
    """Where the first match of a pattern for `length` bytes begins, searched part by part as `contains` does."""
    for start in range(0, len(data), _PART):
        match = pattern.search(data, start, start + _PART + length - 1)
        if match is not None:
            return match.start()
    return None


def as_text(file: CloudFile) -> CloudFile:
    """The file as text: UTF-16 with a byte order mark becomes UTF-8, and carriage returns without any line feed become
    line feeds. A minus sign U+2212 before a digit becomes a hyphen.

    Raises:
        MalformedBody: the file begins with the byte order mark of UTF-16, and the rest is not UTF-16.
    """
    data = file.data
    encoding = UTF16.get(data[:2])
    if encoding is not None:
        data = _decoded(file, encoding)
    if contains(data, b"\r") and not contains(data, b"\n"):
        data = with_line_feeds(data)
    if contains(data, MINUS_SIGN):
        data = _with_hyphens(data)
    return replace(file, data=data)


# All of these work part by part: one call for a large file would hold the interpreter's lock.
def _decoded(file: CloudFile, encoding: str) -> bytes:
    decoder = codecs.getincrementaldecoder(encoding)()
    parts: list[bytes] = []
    for start in range(2, len(file.data) + 1, _SHORT_PART):
        try:
            text = decoder.decode(file.data[start : start + _SHORT_PART], final=start + _SHORT_PART >= len(file.data))
            parts.append(text.encode())
        except UnicodeError as error:
            reason = error.reason if isinstance(error, UnicodeDecodeError) else error
            raise file.malformed(
                "the file begins with the byte order mark of UTF-16, and the rest is not UTF-16: "
                f"{reason} after byte {start}"
            ) from None
    return b"".join(parts)


def with_line_feeds(data: bytes) -> bytes:
    """The text with a line feed for each carriage return."""
    return b"".join(data[start : start + _PART].translate(_LINE_FEEDS) for start in range(0, len(data), _PART))


def _with_hyphens(data: bytes) -> bytes:
    parts: list[bytes] = []
    start = 0
    while start < len(data):
        stop = min(start + _SHORT_PART, len(data))
        # A minus sign and the digit after it belong to one part.
        cut = MINUS.search(data, max(start, stop - len(MINUS_SIGN)), stop + len(MINUS_SIGN))
        if cut is not None and start < cut.start() < stop <= cut.end():
            stop = cut.start()
        parts.append(MINUS.sub(b"-", data[start:stop]))
        start = stop
    return b"".join(parts)


def pieces_of_lines(data: bytes, start: int) -> Iterator[bytes]:
    """The lines after byte `start`, with their ends.

    A line of more than MAX_LINE bytes comes in pieces: one copy of all would hold the interpreter's lock.
    """
    stream = io.BytesIO(data)  # without a copy
    stream.seek(start)
    return iter(partial(stream.readline, MAX_LINE + 1), b"")


def lines(file: CloudFile, start: int = 0) -> Iterator[tuple[int, str]]:
    """The lines after byte `start` that are not blank, with their numbers. The line at `start` has number 1.

    Raises:
        MalformedBody: a line is longer than `MAX_LINE`.
    """
    for number, raw in enumerate(pieces_of_lines(file.data, start), 1):
        if len(raw) > MAX_LINE:
            raise file.malformed(
                f"line {number} has more than {MAX_LINE} characters; write a line for each point",
                "a line for each point",
            )
        # Latin-1 decodes any bytes, one character each. Only comments, names and labels have more than ASCII.
        # Tabs stay: at the ends of a line they separate empty fields.
        line = raw.decode("latin-1").strip(" \r\n")
        if line and not line.isspace():
            yield number, line


def parse(rows: Iterable[str], delimiter: str | None = None, use: Sequence[int] | None = None) -> Float64:
    """Rows of text, none of them blank, as a table of numbers, (N, C).

    Args:
        rows: the lines.
        delimiter: between fields; None is any whitespace.
        use: the positions to read, in this order; None reads all, and requires rows of equal length.

    Raises:
        ValueError: there are no rows, they differ in length, or a field is not a number.
    """
    iterator = iter(rows)
    head = next(iterator, None)
    if head is None:
        raise ValueError("there are no rows")
    parts: list[Float64] = []
    # Part by part, because NumPy copies a table that grows, and holds the interpreter's lock meanwhile. Each part
    # begins with the first row, whose length all rows must have.
    while not parts or len(parts[-1]) == PARSED_ROWS:
        some = chain([head], islice(iterator, PARSED_ROWS - (not parts)))
        try:
            part = np.loadtxt(some, np.float64, comments=None, delimiter=delimiter, usecols=use, ndmin=2)
        except ValueError as error:
            raise ValueError(_in_whole(str(error), PARSED_ROWS * len(parts) - bool(parts))) from None
        parts.append(part[bool(parts) :])
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _in_whole(error: str, before: int) -> str:
    """NumPy's error of a row, with `before` added to its number."""
    return ROW.sub(lambda match: f"row {int(match[1]) + before}", error)


def unquote(line: str, delimiter: str | None) -> str:
    """The line without quotes; a separator between quotes becomes HIDDEN."""

    def hide(match: re.Match[str]) -> str:
        inner = match[1].strip()
        if delimiter is not None:
            return inner.replace(delimiter, HIDDEN)
        return HIDDEN.join(inner.split()) or HIDDEN

    return QUOTED.sub(hide, line).replace('"', "")


def split(line: str, delimiter: str | None) -> list[str]:
    """The fields of a line, without quotes and surrounding blanks."""
    if '"' not in line:
        return [field.strip() for field in line.split(delimiter)]
    shown = delimiter or " "
    return [field.replace(HIDDEN, shown).strip() for field in unquote(line, delimiter).split(delimiter)]


def split_names(line: str, delimiter: str | None) -> list[str]:
    """The fields of a line of names, decoded; between blanks a unit in brackets stays with its name."""
    with suppress(UnicodeDecodeError):  # an older encoding; in the common ones µ has the same byte
        line = line.encode("latin-1").decode()
    if delimiter is not None or not ("(" in line or "[" in line):
        return split(line, delimiter)
    return [name.strip().strip('"') for name in SPACED_NAMES.findall(line)]


def is_number(text: str) -> bool:
    """Whether float() reads the text, or would with E in place of Fortran's D, and it has no underscores."""
    try:
        float(text)
    except ValueError:
        return FORTRAN.fullmatch(text) is not None
    return "_" not in text


def with_e(text: str) -> str:
    """The text, with E for the exponent in place of Fortran's D."""
    return text.replace("D", "E").replace("d", "e") if FORTRAN.fullmatch(text) else text


def is_missing(text: str) -> bool:
    """Whether the text stands for a missing number."""
    return text.casefold() in MISSING
