"""The errors of tables that cannot be read: cause, line and cure."""

from __future__ import annotations

from collections.abc import Sequence

from .cloud_file import CloudFile
from .fields import DECIMAL_COMMA, LIKE_VALUE, guess_separator, is_value
from .text import HIDDEN, is_number, split

A_NUMBER = "a number with a decimal point, or NaN for a missing one"


def no_points(file: CloudFile, rows: Sequence[tuple[int, str]], names: Sequence[str]) -> Exception:
    """The error of a table whose beginning has no points.

    Args:
        file: for the error.
        rows: the lines that should be points, with their numbers.
        names: the names of the columns; empty if there is no header.
    """
    if not rows:
        shown = f", only the names {', '.join(names[:9])[:80]!r}" if names else ""
        return file.invalid(f"the file holds no points{shown}", "a row of coordinates for each point")
    split_up = [split(text, guess_separator(text, None)) for _, text in rows]
    for begins in (is_value, LIKE_VALUE.match):
        for (number, text), fields in zip(rows, split_up, strict=True):
            if any(begins(field) for field in fields):
                wrong = next((field for field in fields if not is_number(field)), "")
                return not_a_number(file, number, wrong, fields, text)
    return file.invalid(f"the file holds no points, only text: {shown_text(rows[0][1])}", "one or more points")


def not_a_number(
    file: CloudFile, number: int, wrong: str, fields: Sequence[str], text: str = "", *, atoms: bool = False
) -> Exception:
    """The error of a field of a line that is not a number.

    Args:
        file: for the error.
        number: the line's number.
        wrong: the field.
        fields: all fields of the line.
        text: the line before it is split.
        atoms: whether the line can be an atom of a chemical XYZ file.
    """
    words = text.split()
    if len(words) > 1 and all(DECIMAL_COMMA.fullmatch(word) for word in words):
        wrong = words[0]
        cure = "; decimal commas need semicolons or tabs between the columns, or write points"
    elif not wrong:
        cure = "; leave no field empty"
    elif "," in wrong:
        cure = "; write decimal points, no commas, and no separators of thousands"
    elif wrong == "v" and len(fields) > 3:
        cure = "; OBJ files are not read, so export the points as PLY"
    elif atoms or (len(fields) > 3 and wrong == fields[0] and wrong.isalpha()):
        cure = "; a chemical XYZ file needs columns=1,2,3, which omit its elements"
    elif not any(character.isalnum() for character in wrong):
        cure = "; write NaN for a missing number"
    elif LIKE_VALUE.match(wrong):
        cure = "; write decimal numbers without units, prefixes and separators of thousands"
    else:
        cure = ""
    return file.malformed(f"line {number}: {shown_text(wrong)} is not a number{cure}", A_NUMBER)


def shown_text(text: str) -> str:
    """At most 40 characters of a line that was decoded as Latin-1, for a message."""
    return repr(text.replace(HIDDEN, " ").encode("latin-1", errors="replace").decode(errors="replace")[:40])
