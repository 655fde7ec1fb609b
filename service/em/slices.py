"""Slices of a long computation: its loops stop between two parts, where others have their turn and it may end early.

A compiled loop over rows visits about SLICE_PAIRS pairs, then returns the next row to its caller in Python, which calls
`pause` and goes on. The rows and the order of every sum stay the same, so no result depends on where a loop stops. A
loop over arrays does so between two blocks of `blocks`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Pairs that a loop visits between two pauses: about 5 to 10 ms.
SLICE_PAIRS = 2_000_000
# The work of a row besides its pairs, in pairs.
ROW_PAIRS = 32
# Elements of an array that a block of rows has: NumPy passes over each several times.
BLOCK_ELEMENTS = 500_000


class _Local(threading.local):
    poll: Callable[[], object] | None = None


_local = _Local()


@contextmanager
def sliced(poll: Callable[[], object]) -> Iterator[None]:
    """Within this context, `pause` calls `poll` on this thread. `poll` may raise, to end the computation."""
    before, _local.poll = _local.poll, poll
    try:
        yield
    finally:
        _local.poll = before


def pause() -> None:
    """Between two parts of a computation: let others have their turn, or end it."""
    if _local.poll is not None:
        _local.poll()


def in_slices(count: int, part: Callable[[int, int], int]) -> None:
    """Call `part` (row, pairs) until it has reached row `count`, with a pause between two calls.

    It begins at `row`, visits about `pairs` pairs, and returns the next row.
    """
    row = part(0, SLICE_PAIRS)
    while row < count:
        pause()
        row = part(row, SLICE_PAIRS)


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """The rows of an array (rows, columns) in blocks of about BLOCK_ELEMENTS elements, with a pause between two."""
    size = max(1, BLOCK_ELEMENTS // max(columns, 1))
    for first in range(0, rows, size):
        if first:
            pause()
        yield slice(first, min(first + size, rows))
