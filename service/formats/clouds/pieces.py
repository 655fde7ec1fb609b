"""Large clouds as bytes, from pieces: one copy of all would hold the interpreter's lock for tens of milliseconds."""

from __future__ import annotations

from collections.abc import Iterator

from ..arrays import Float64

# Numbers of one piece, which takes about half a millisecond, as text too.
NUMBERS = 1 << 13


def parts(points: Float64) -> Iterator[Float64]:
    """The points (N, D) in order, some of them at a time."""
    step = max(1, NUMBERS // points.shape[1])
    for start in range(0, len(points), step):
        yield points[start : start + step]


def binary(head: bytes, points: Float64) -> bytes:
    """`head`, and then the numbers of the points (N, D), as little-endian doubles."""
    # bytes.join gives up the lock where it copies much.
    return b"".join([head, *(some.astype("<f8").tobytes() for some in parts(points))])
