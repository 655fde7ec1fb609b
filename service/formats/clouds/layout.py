"""The layout of a table of text: its separator, its header, and its first row of points.

Tools write titles, comments, units and counts before the points. The first `MAX_HEAD` lines are examined. The header is
the first of them with recognised names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ...errors import InvalidInput
from . import coordinates
from .cloud_file import CloudFile
from .columns import NotFound, select
from .text import is_missing, is_number, lines, split, split_names, unquote

COMMENTS = ("#", "//")
# Begins a comment only at the beginning of a line, as MATLAB and COMSOL write it; names may contain it.
LINE_COMMENT = "%"
MAX_HEAD = 64
# Maximum bytes of names that are examined, which bounds the time of the search for coordinates.
MAX_HEADER = 2**19
# The line in which Excel names the separator.
SEPARATOR = re.compile(r'"?sep=([;,|])"?', re.IGNORECASE)
COUNT = re.compile(r"\d{1,12}")
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


class Header(NamedTuple):
    """A line of names."""

    line: int
    names: list[str]
    delimiter: str | None
    comment: bool = False


class Layout(NamedTuple):
    """The layout of a table, found before its rows are read."""

    header: Header | None
    first: int
    """Line number of the first point, counted from 1."""
    delimiter: str | None
    width: int
    """Fields in a row."""
    trailing: int
    """Empty fields at the end of each row, caused by separators at the end of the line."""
    shift: int
    """1 if each row begins with a name that the header omits, as R writes them; else 0."""
    declared: tuple[int, int] | None
    """The number of points that a line before them declares, and that line's number."""

    @property
    def names(self) -> list[str]:
        """A name for each field, or nothing."""
        return [] if self.header is None else [""] * self.shift + self.header.names


class Line(NamedTuple):
    """A line before it is split: its number, its text without a comment, and the comment."""

    number: int
    text: str
    comment: str


def annotated(file: CloudFile, *, inline: bool) -> Iterator[Line]:
    """The lines, split into text and comment. With `inline`, a mark needs no blank before it to begin a comment.

    The # of 1.#QNAN, which Windows writes for NaN, does not begin a comment.
    """
    marked = any(mark.encode() in file.data for mark in COMMENTS)
    for number, line in lines(file):
        text, comment = line, ""
        if line[0] == LINE_COMMENT:
            text, comment = "", line
        elif marked:
            for mark in COMMENTS:
                at = text.find(mark)
                # In tables with names, a mark in the middle may belong to a colour or to an address.
                if at == 0 or (at > 0 and (text[at - 1] in " \t" or (inline and text[at - 1] != "."))):
                    text, comment = text[:at].rstrip(), text[at:]
        yield Line(number, text, comment)


def find_layout(file: CloudFile) -> Layout:
    """The layout of a table, from its first lines.

    Raises:
        MalformedBody: the first lines are not a table.
        InvalidInput: there are no points, or no names are recognised as coordinates.
    """
    header: Header | None = None
    remark: Header | None = None  # names in a comment
    texts: list[Line] = []  # lines that are neither names nor points
    separator: str | None = None
    stream = annotated(file, inline=False)
    budget = MAX_HEADER
    for _ in range(MAX_HEAD):
        line = next(stream, None)
        if line is None:
            break
        announced = SEPARATOR.fullmatch(line.text)
        if announced:
            separator = announced[1]
        elif not line.text:
            budget -= len(line.comment)
            names = _header(file, line, separator, budget) if budget > 0 else None
            remark = names or remark
        else:
            fields = split(line.text, _guess(line.text, separator))
            while len(fields) > 1 and not fields[-1]:
                fields.pop()
            if not fields:
                continue
            numbers = sum(_is_value(field) for field in fields)
            known = remark is not None and len(fields) == len(remark.names)
            if header is None and not (numbers == len(fields) or (known and numbers)):
                budget -= len(line.text)
                if budget < 0:
                    raise file.invalid(
                        f"line {line.number} and those before it have more than {MAX_HEADER} characters of names; "
                        "keep the columns of the coordinates",
                        f"at most {MAX_HEADER} characters of names",
                    )
                header = _header(file, line, separator, budget)
                if header is None:
                    if _has_chosen(file, fields):
                        return _layout(file, stream, line, None, remark, separator)
                    texts.append(line)
            elif COUNT.fullmatch(line.text) and not _has_chosen(file, fields, otherwise=True):
                texts.append(line)  # the number of atoms of a chemical XYZ file
            # Lines of words after the names are titles and units, which TrackMate writes.
            elif numbers or all(is_missing(field) or not field for field in fields):
                layout = _layout(file, stream, line, header, remark, separator)
                if layout.header is None and texts and not (file.columns and not file.columns.named):
                    raise _unrecognised(file, texts, layout)
                return layout
            else:
                texts.append(line)
    raise _complaint(file, texts, header)


def _is_value(field: str) -> bool:
    return is_number(field) or DECIMAL_COMMA.fullmatch(field) is not None


def _has_chosen(file: CloudFile, fields: list[str], *, otherwise: bool = False) -> bool:
    """Whether columns chosen by position are numbers in this row; `otherwise` if none is chosen by position."""
    if file.columns is None or file.columns.named:
        return otherwise
    numbered = [str(position) for position in range(len(fields) - 1)]
    if fields[1:] == numbered and not fields[0]:  # pandas' names of unnamed columns, after the index
        return False
    places = [int(item) for item in file.columns.items]
    return all(place < len(fields) and _is_value(fields[place]) for place in places)


def _unrecognised(file: CloudFile, texts: list[Line], layout: Layout) -> Exception:
    """The error of a table whose points follow lines of text that name no coordinates."""
    whole = layout.width + layout.trailing
    names: list[str] = []
    for line in texts:
        names = split_names(line.text, _guess(line.text, layout.delimiter))
        if len(names) in {layout.width, whole}:
            try:
                file.choose(names, f"line {line.number}")
            except InvalidInput as error:
                return error
    return file.malformed(
        f"line {texts[-1].number} names {len(names)} columns and line {layout.first} has {layout.width}; "
        "write a name for each column, or choose columns with columns=, by position counted from 0"
    )


def _guess(text: str, separator: str | None) -> str | None:
    """The separator of a line, judged by this line alone."""
    if separator is not None:
        return separator
    if ";" in text:
        return ";"
    if "\t" in text and not all(is_number(field) for field in text.split()):
        commas = text.split(",")
        if len(commas) < 2 or not all(is_number(field) for field in commas):
            return "\t"
    return "," if "," in text else None


def _header(file: CloudFile, line: Line, separator: str | None, budget: int) -> Header | None:
    """The line as a header, if its names include coordinates; else None."""
    text = line.text or line.comment.lstrip("#/% \t")
    delimiter = _guess(text, separator)
    if '"' in text and delimiter in {",", ";"} and delimiter not in unquote(text, delimiter):
        delimiter = None  # it is only inside quotes
    names = split_names(text, delimiter)
    try:
        if file.columns is not None:
            if not file.columns.named:
                return None
            select(file.columns, names, len(names))
        else:
            coordinates.recognise(names)
    except coordinates.Unrecognised as error:
        # Angles in a comment are kept, so that they are refused where they name the columns.
        if line.text or not error.final:
            return None
    except NotFound:
        return None
    return Header(line.number, names, delimiter, comment=not line.text)


def _layout(
    file: CloudFile,
    stream: Iterator[Line],
    line: Line,
    header: Header | None,
    remark: Header | None,
    separator: str | None,
) -> Layout:
    """The layout of the rows that begin at `line`, or after it where `line` is a count."""
    declared = None
    if COUNT.fullmatch(line.text):
        after = next((later for later in stream if later.text), None)
        if after is not None and len(split(after.text, _guess(after.text, separator))) > 1:
            fields = split(after.text, _guess(after.text, separator))
            if all(_is_value(field) or not field for field in fields):
                declared, line = (int(line.text), line.number), after
    if header is None and remark is not None:
        delimiter = _delimiter(line.text, remark, separator)
        fields = split(line.text, delimiter)
        # The words of a comment are names only if each column has one, or if they begin with x, y and z.
        if len(fields) == len(remark.names):
            header = remark
        elif len(fields) > 3 and [name.casefold() for name in remark.names[:3]] == ["x", "y", "z"]:
            header = remark._replace(names=[*remark.names[:3], *[""] * (len(fields) - 3)])
    delimiter = _delimiter(line.text, header, separator)
    fields = split(line.text, delimiter)
    count = len(fields)
    filled = count
    while delimiter is not None and filled > 1 and not fields[filled - 1]:
        filled -= 1
    if header is None:
        return Layout(None, line.number, delimiter, filled, count - filled, 0, declared)
    names = list(header.names)
    while len(names) > max(count, 1) and not names[-1]:
        names.pop()
    trailing = min(max(count - len(names), 0), count - filled)
    # R leaves the name of the row names out.
    labelled = line.text.startswith('"') or not _is_value(fields[0])
    shift = int(labelled and len(names) + 1 == count - trailing)
    if len(names) + shift + trailing != count:
        raise file.malformed(
            f"line {header.line} names {len(names)} columns and line {line.number} has {count}; "
            "write a name for each column"
        )
    return Layout(header._replace(names=names), line.number, delimiter, count - trailing, trailing, shift, declared)


def _delimiter(text: str, header: Header | None, separator: str | None) -> str | None:
    """The separator of the rows: that of the header, if it gives as many fields."""
    if separator is not None:
        return separator
    if header is not None and header.delimiter is not None and len(header.names) > 1:
        count = len(split(text, header.delimiter))
        if header.delimiter in text and (header.delimiter != "," or ";" not in text or count >= len(header.names)):
            return header.delimiter
    return _guess(text, None)


def _complaint(file: CloudFile, texts: list[Line], header: Header | None) -> Exception:
    """The error of a table whose beginning has no points."""
    rows = [line for line in texts if header is None or line.number > header.line]
    if not rows:
        shown = "" if header is None else f", only the names {', '.join(header.names[:9])[:80]!r}"
        return file.invalid(f"the file holds no points{shown}", "a row of coordinates for each point")
    first = rows[0]
    split_up = [split(line.text, _guess(line.text, None)) for line in rows]
    numbers = [any(_is_value(field) for field in fields) for fields in split_up]
    if not any(numbers) or not split_up[0]:
        return file.invalid(f"the file holds no points, only text: {shown_text(first.text)}", "one or more points")
    wrong = next((field for field in split_up[0] if not is_number(field)), "")
    return not_a_number(file, first.number, wrong, split_up[0])


def not_a_number(file: CloudFile, number: int, wrong: str, fields: list[str], *, atoms: bool = False) -> Exception:
    """The error of a field of line `number` that is not a number."""
    if not wrong:
        cure = "; leave no field empty"
    elif "," in wrong:
        cure = "; write decimal points, no commas, and no separators of thousands"
    elif wrong == "v" and len(fields) > 3:
        cure = "; OBJ files are not read, so export the points as PLY"
    elif atoms or (len(fields) > 3 and wrong == fields[0] and wrong.isalpha()):
        cure = "; a chemical XYZ file needs columns=1,2,3, which omit its elements"
    else:
        cure = ""
    return file.malformed(f"line {number}: {shown_text(wrong)} is not a number{cure}")


def shown_text(text: str) -> str:
    """At most 40 characters of a line that was decoded as Latin-1, for a message."""
    return repr(text.encode("latin-1", errors="replace").decode(errors="replace")[:40])
