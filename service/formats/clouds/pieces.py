"""Large clouds as bytes, from pieces: one copy of all would hold the interpreter's lock for tens of milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from ..arrays import Float64

# Numbers of one piece, which takes about half a millisecond, as text too.
NUMBERS = 1 << 13
# Bytes of one piece.
BYTES = 1 << 20


def parts(points: Float64) -> Iterator[Float64]:
    """The points (N, D) in order, some of them at a time."""
    step = max(1, NUMBERS // points.shape[1])
    for start in range(0, len(points), step):
        yield points[start : start + step]


def copied(data: bytes, start: int, stop: int) -> bytes:
    """`data[start:stop]`, for 0 ≤ start; fewer bytes if there are fewer."""
    stop = min(stop, len(data))
    return b"".join(data[at : min(at + BYTES, stop)] for at in range(start, stop, BYTES))


def read(stream: IO[bytes], head: bytes, size: int) -> bytes:
    """`head`, and then up to `size` bytes of a stream."""
    pieces = [head]
    while size > 0 and (piece := stream.read(min(size, BYTES))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def binary(head: bytes, points: Float64) -> bytes:
    """`head`, and then the numbers of the points (N, D), as little-endian doubles."""
    # bytes.join gives up the lock where it copies much.
    return b"".join([head, *(some.astype("<f8").tobytes() for some in parts(points))])
