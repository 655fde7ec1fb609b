"""The columns that a caller chooses as coordinates, by name or by position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .names import plain


class Columns(NamedTuple):
    """Names of columns or positions counted from 0, in the order of the coordinates."""

    items: tuple[str | int, ...]
    pointer: str = "/columns"
    """JSON pointer of the field that they came in."""

    @property
    def named(self) -> bool:
        """Whether at least one item can only be a name."""
        return any(isinstance(item, str) and not item.isdecimal() for item in self.items)


class NotFound(Exception):
    """A column does not exist, is ambiguous, or is chosen twice. The message begins the sentence that
    `CloudFile.chosen` completes.
    """


def select(columns: Columns, names: Sequence[str], count: int) -> list[int]:
    """The position of each chosen column.

    A name is compared exactly first, then without case, then without its unit: `x` finds `X [nm]`. A whole number
    that is not a name is a position.

    Args:
        columns: the chosen columns.
        names: the names of the columns; empty if they have none.
        count: how many columns there are.

    Raises:
        NotFound: for the first item that cannot be resolved.
    """
    if not columns.items:
        raise NotFound("no column is chosen")
    positions = [_position(item, names, count) for item in columns.items]
    for index, position in enumerate(positions):
        if position in positions[:index]:
            raise NotFound(f"column {columns.items[index]!r} is chosen twice")
    return positions


def _position(item: str | int, names: Sequence[str], count: int) -> int:
    text = str(item).strip()
    views: tuple[Callable[[str], str], ...] = (str.strip, str.casefold, plain)
    for view in views:
        wanted = view(text)
        found = [position for position, name in enumerate(names) if wanted and view(name) == wanted]
        if len(found) > 1:
            raise NotFound(f"{len(found)} columns are called {text[:60]!r} (positions {found[:9]}); give a position")
        if found:
            return found[0]
    if not text.isdecimal() or len(text) > 9:
        raise NotFound(f"there is no column {text[:60]!r}")
    if int(text) >= count:
        raise NotFound(f"there is no column at position {int(text)} of {count}, counted from 0")
    return int(text)
