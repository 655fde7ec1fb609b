"""Single lines of a table: their separator, and whether their fields are values, units or words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .names import UNITS
from .text import QUOTED, is_missing, is_number

DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
# A value, damaged or with a unit: its first letter or digit is a digit.
LIKE_VALUE = re.compile(r"[^\w]{0,9}\d")
BRACKETED = re.compile(r"[(\[{][^()\[\]{}]*[)\]}]")
BOOLEANS = frozenset({"true", "false"})


def is_value(field: str) -> bool:
    """Whether the field is a number, perhaps with a decimal comma."""
    return is_number(field) or DECIMAL_COMMA.fullmatch(field) is not None


def is_unit(field: str) -> bool:
    """Whether the field is a unit of length, or a remark in brackets without digits."""
    if BRACKETED.fullmatch(field):
        return not any(character.isdigit() for character in field)
    return field.casefold() in UNITS


def is_word(field: str) -> bool:
    """Whether the field has letters but no digits, and is neither a truth value nor a missing number."""
    letters = any(character.isalpha() for character in field)
    digits = any(character.isdigit() for character in field)
    return letters and not digits and field.casefold() not in BOOLEANS and not is_missing(field)


def guess_separator(text: str, separator: str | None) -> str | None:
    """The separator of a line, judged by this line alone; separators between quotes do not count.

    Args:
        text: the line.
        separator: the one that the file announces, or None.
    """
    if separator is not None:
        return separator
    bare = QUOTED.sub('""', text) if '"' in text else text
    if ";" in bare:
        return ";"
    if "\t" in bare and not all(is_number(field) for field in text.split()):
        commas = text.split(",")
        if len(commas) < 2 or not all(is_number(field) for field in commas):
            return "\t"
    return "," if "," in bare else None


def are_positions(fields: Sequence[str], following: Sequence[str]) -> bool:
    """Whether the fields are 0, 1, 2, ..., and all fields of the following row have decimal points.

    pandas and R write such names for columns without names.
    """
    return (
        len(fields) > 1
        and len(fields) == len(following)
        and all(field == str(position) for position, field in enumerate(fields))
        and all(is_number(field) and "." in field for field in following)
    )
