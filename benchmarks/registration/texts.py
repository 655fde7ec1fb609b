"""Numbers and grids as text."""

from __future__ import annotations

import math
from collections.abc import Callable

from benchmarks.registration.scenarios import Row


def duration(seconds: float) -> str:
    """Milliseconds or seconds, with three digits."""
    if not math.isfinite(seconds):
        return "-"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def claim(what: str, value: float, holds: bool, asked: str, form: str) -> str:
    """A required figure: its value, the bound, and whether the bound holds."""
    return f"{what:<58} {form.format(value):>8}  {asked:<8}  {'yes' if holds else 'NO'}"


def grid(title: str, rows: list[Row], column: Callable[[Row], str], cell: Callable[[Row], str]) -> str:
    """A table with a line for each contender."""
    columns = list(dict.fromkeys(map(column, rows)))
    names = list(dict.fromkeys(row.contender for row in rows))
    cells = {(row.contender, column(row)): cell(row) for row in rows}
    lines = [[title, *columns]] + [[name, *(cells.get((name, c), "-") for c in columns)] for name in names]
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(t.rjust(w) for t, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )
