"""The layout of a table of text: its separator, its header, and its first row of points.

Tools write titles, comments, units and counts before the points. The first `MAX_HEAD` lines are examined. The header is
the first of them with recognised names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from ...errors import InvalidInput
from . import coordinates
from .cloud_file import CloudFile, listed
from .columns import NotFound, select
from .complaints import no_points, not_a_number, shown_text
from .fields import LIKE_VALUE, are_positions, guess_separator, is_value
from .text import contains, lines, split, split_names, unquote
from .titles import are_units, is_title

COMMENTS = ("#", "//")
# Begins a comment only at the beginning of a line, as MATLAB and COMSOL write it; names may contain it.
LINE_COMMENT = "%"
MAX_HEAD = 64
# Maximum bytes of names that are examined, which bounds the time of the search for coordinates.
MAX_HEADER = 2**19
# The line in which Excel names the separator.
SEPARATOR = re.compile(r'"?sep=([;,|])"?', re.IGNORECASE)
COUNT = re.compile(r"\d{1,12}")


class Header(NamedTuple):
    """A line of names."""

    line: int
    names: list[str]
    delimiter: str | None
    positions: list[int]
    """The columns that are coordinates."""


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
    titles: str = ""
    """What an error states about a header that is not read, because columns are chosen by position."""

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
    marked = any(contains(file.data, mark.encode()) for mark in COMMENTS)
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
    skipped: list[Line] = []  # lines of words after the names
    separator: str | None = None
    stream: Iterator[Line] = annotated(file, inline=False)
    budget = title_budget = MAX_HEADER
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
            fields = split(line.text, guess_separator(line.text, separator))
            while len(fields) > 1 and not fields[-1]:
                fields.pop()
            if not fields:
                continue
            if header is None and not texts and fields[:2] == ["0", "1"]:
                following = next(stream, None)
                if following is not None:
                    stream = chain([following], stream)
                    if are_positions(fields, split(following.text, guess_separator(following.text, separator))):
                        file.warnings.append(
                            f"line {line.number} is read as the names of the columns, {listed(fields)}, not as a point"
                        )
                        continue
            title_budget -= len(line.text) if header is not None else 0
            numbers = sum(is_value(field) for field in fields)
            known = _named_by(remark, len(fields))
            if header is None and not (numbers == len(fields) or (known is not None and numbers)):
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
                    if known is None:
                        texts.append(line)
                    elif not is_title(fields, known.names, known.positions):
                        return _layout(file, stream, line, None, remark, separator)
                    elif not are_units(fields, known.names, known.positions):
                        skipped.append(line)
            elif COUNT.fullmatch(line.text) and not _has_chosen(file, fields, otherwise=True):
                texts.append(line)  # the number of atoms of a chemical XYZ file
            elif header is None or numbers or title_budget < 0 or not is_title(*_of(line, header, separator)):
                layout = _layout(file, stream, line, header, remark, separator)
                if layout.header is not None:
                    _warn(file, skipped + [text for text in texts if _may_be_points(text, layout, separator)])
                elif texts and file.columns is not None and not file.columns.named:
                    return _check_positions(file, texts, layout)
                elif texts:
                    raise _unrecognised(file, texts, layout)
                return layout
            elif not are_units(*_of(line, header, separator)):
                skipped.append(line)
    rows = texts if header is None else skipped
    raise no_points(file, [(line.number, line.text) for line in rows], [] if header is None else header.names)


def _of(line: Line, header: Header, separator: str | None) -> tuple[list[str], list[str], list[int]]:
    """The fields of a row, and the names and the positions of the coordinates."""
    return split_names(line.text, _delimiter(line.text, header, separator)), header.names, header.positions


def _named_by(remark: Header | None, count: int) -> Header | None:
    """The words of a comment as a header of `count` columns.

    They are names only if each column has one, or if they begin with x, y and z.
    """
    if remark is None or len(remark.names) == count:
        return remark
    if count > 3 and [name.casefold() for name in remark.names[:3]] == ["x", "y", "z"]:
        return remark._replace(names=[*remark.names[:3], *[""] * (count - 3)])
    return None


def _may_be_points(line: Line, layout: Layout, separator: str | None) -> bool:
    """Whether a line before the points has as many fields as a point, and a damaged value among them."""
    fields = split(line.text, guess_separator(line.text, separator))
    return len(fields) == layout.width and any(LIKE_VALUE.match(field) for field in fields)


def _warn(file: CloudFile, skipped: Sequence[Line]) -> None:
    if skipped:
        more = f" and {len(skipped) - 1} more" if len(skipped) > 1 else ""
        file.warnings.append(
            f"skipped as text before the first point: line {skipped[0].number}: {shown_text(skipped[0].text)}{more}"
        )


def _check_positions(file: CloudFile, texts: Sequence[Line], layout: Layout) -> Layout:
    """The layout with the titles of its columns, which are chosen by position.

    Raises:
        MalformedBody: one of the lines before the first point is a damaged point.
    """
    places = _places(file)
    header: Header | None = None
    comment = False
    skipped: list[Line] = []
    for line in texts:
        names = split_names(line.text, guess_separator(line.text, layout.delimiter))
        if len(names) == layout.width and max(places, default=0) < layout.width and not comment:
            values = [names[place] for place in places]
            pandas = names == ["", *map(str, range(len(names) - 1))]
            damaged = [value for value in values if LIKE_VALUE.match(value)] if not pandas else []
            if header is not None and not damaged and not is_title(names, header.names, places):
                damaged = [value for value in values if not is_value(value)]
            if damaged:
                raise not_a_number(file, line.number, damaged[0], names, line.text)
            if header is None:
                header = Header(line.number, names, layout.delimiter, places)
            elif not are_units(names, header.names, places):
                skipped.append(line)
        elif len(names) == layout.width:
            layout = layout._replace(titles=f"line {line.number} names {len(names)} columns: {listed(names)}")
        comment = COUNT.fullmatch(line.text) is not None
    _warn(file, skipped)
    return layout


def _has_chosen(file: CloudFile, fields: list[str], *, otherwise: bool = False) -> bool:
    """Whether columns chosen by position are numbers in this row; `otherwise` if none is chosen by position."""
    if file.columns is None or file.columns.named:
        return otherwise
    numbered = [str(position) for position in range(len(fields) - 1)]
    if fields[1:] == numbered and not fields[0]:  # pandas' names of unnamed columns, after the index
        return False
    places = _places(file)
    return all(place < len(fields) and is_value(fields[place]) for place in places)


def _places(file: CloudFile) -> list[int]:
    """The chosen positions; a number of very many digits is beyond any column."""
    items = [] if file.columns is None else file.columns.items
    return [int(item) if len(str(item)) < 10 else 10**9 for item in items]


def _unrecognised(file: CloudFile, texts: list[Line], layout: Layout) -> Exception:
    """The error of a table whose points follow lines of text that name no coordinates."""
    whole = layout.width + layout.trailing
    names: list[str] = []
    for line in texts:
        names = split_names(line.text, guess_separator(line.text, layout.delimiter))
        if len(names) in {layout.width, whole}:
            try:
                file.choose(names, f"line {line.number}")
            except InvalidInput as error:
                return error
    return file.malformed(
        f"line {texts[-1].number} names {len(names)} columns and line {layout.first} has {layout.width}; "
        "write a name for each column, or choose columns with columns=, by position counted from 0",
        "a name for each column",
    )


def _header(file: CloudFile, line: Line, separator: str | None, budget: int) -> Header | None:
    """The line as a header, if its names include coordinates; else None."""
    text = line.text or line.comment.lstrip("#/% \t")
    delimiter = guess_separator(text, separator)
    if '"' in text and delimiter in {",", ";"} and delimiter not in unquote(text, delimiter):
        delimiter = None  # it is only inside quotes
    names = split_names(text, delimiter)
    positions: list[int] = []
    try:
        if file.columns is not None:
            if not file.columns.named:
                return None
            positions = select(file.columns, names, len(names))
        else:
            positions = coordinates.recognise(names).positions
    except coordinates.Unrecognised as error:
        # Angles in a comment are kept, so that they are refused where they name the columns.
        if line.text or not error.final:
            return None
    except NotFound:
        return None
    return Header(line.number, names, delimiter, positions)


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
        if after is not None and len(split(after.text, guess_separator(after.text, separator))) > 1:
            fields = split(after.text, guess_separator(after.text, separator))
            if all(is_value(field) or not field for field in fields):
                declared, line = (int(line.text), line.number), after
    if header is None and remark is not None:
        delimiter = _delimiter(line.text, remark, separator)
        fields = split(line.text, delimiter)
        header = _named_by(remark, len(fields))
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
    labelled = line.text.startswith('"') or not is_value(fields[0])
    shift = int(labelled and len(names) + 1 == count - trailing)
    if len(names) + shift + trailing != count:
        raise file.malformed(
            f"line {header.line} names {len(names)} columns and line {line.number} has {count}; "
            "write a name for each column",
            "a name for each column",
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
    return guess_separator(text, None)
