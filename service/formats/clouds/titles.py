"""Rows of words between the names of a table and its points: titles, units, or damaged points."""

from __future__ import annotations

from collections.abc import Sequence

from . import coordinates
from .fields import is_unit, is_word
from .text import is_missing

# Names of more coordinates are not compared with the header, which bounds the time.
MAX_AXES = 16


def is_title(fields: Sequence[str], names: Sequence[str], positions: Sequence[int]) -> bool:
    """Whether a row has titles or units in place of coordinates, as TrackMate writes them.

    A row with digits, truth values or punctuation there is a damaged point, and one without coordinates is a point.

    Args:
        fields: the row, without numbers; fields at its end may lack.
        names: the header.
        positions: the columns of the header that are coordinates.
    """
    chosen = _coordinates(fields, names, positions)
    if all(not field or is_missing(field) for field in chosen):
        return not any(chosen) and any(is_unit(field) for field in fields)  # units of the other columns
    return _repeats(chosen, fields, names, positions) or all(
        not field or is_missing(field) or is_unit(field) or is_word(field) for field in chosen
    )


def are_units(fields: Sequence[str], names: Sequence[str], positions: Sequence[int]) -> bool:
    """Whether a title has units in place of all coordinates, or names the same coordinates as the header does."""
    chosen = _coordinates(fields, names, positions)
    units = any(chosen) and all(not field or is_unit(field) for field in chosen)
    return units or _repeats(chosen, fields, names, positions)


def _coordinates(fields: Sequence[str], names: Sequence[str], positions: Sequence[int]) -> list[str]:
    """The fields of the coordinates; all fields if the row has more than the header."""
    if len(fields) > len(names):
        return list(fields)
    padded = [*fields, *[""] * (len(names) - len(fields))]
    return [padded[place] for place in positions]


def _repeats(chosen: Sequence[str], fields: Sequence[str], names: Sequence[str], positions: Sequence[int]) -> bool:
    """Whether the coordinates have the names of the header, or others for the same axes."""
    if len(fields) > len(names) or len(chosen) > MAX_AXES:
        return False
    try:
        return coordinates.recognise(chosen).positions == list(range(len(chosen)))
    except coordinates.Unrecognised:
        return list(chosen) == [names[place] for place in positions]
