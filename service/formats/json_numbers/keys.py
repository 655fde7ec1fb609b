"""The keys of a JSON text whose values are arrays."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .grids import Range
from .jit import always_inline, compiled
from .strings import are_equal

Text = NDArray[np.uint8]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

# The index of a name that is not among `Names`.
UNNAMED = -1


class Names(NamedTuple):
    """Keys with arrays as values: their names, one after the other, where each one stops, its ranks and its numbers.

    The ranks are the least and the greatest one. They are (0, 0) for arrays that stay in the text. The numbers have a
    least and a greatest one, and may have to be integers.
    """

    letters: Text
    stops: Int64
    ranks: Int64
    limits: Float64  # (k, 2)
    whole: NDArray[np.bool_]


def names(
    ranks: Mapping[str, tuple[int, int]], kept: Collection[str] = (), ranges: Mapping[str, Range] | None = None
) -> Names:
    """The keys whose arrays are read, with the least and the greatest rank of their arrays, and keys that are kept.

    `ranges` are those of the numbers of some keys; others have any finite numbers.
    """
    all_ranks = dict(ranks) | dict.fromkeys(kept, (0, 0))
    encoded = [name.encode() for name in all_ranks]
    found = [(ranges or {}).get(name, (-np.inf, np.inf, False)) for name in all_ranks]
    return Names(
        np.frombuffer(b"".join(encoded), np.uint8),
        np.cumsum([len(name) for name in encoded], dtype=np.int64),
        np.array([*all_ranks.values()], np.int64).reshape(-1, 2),
        np.array([limits for *limits, _ in found], np.float64).reshape(-1, 2),
        np.array([is_whole for *_, is_whole in found], np.bool_),
    )


def index_of(name: str, names: Names) -> int:
    """The index of a name, or UNNAMED."""
    starts, stops = [0, *names.stops.tolist()[:-1]], names.stops.tolist()
    all_names = [names.letters[start:stop].tobytes().decode() for start, stop in zip(starts, stops, strict=False)]
    return all_names.index(name) if name in all_names else UNNAMED


@always_inline
def which(text: Text, start: int, stop: int, names: Names) -> int:
    """The index of the name that the string in text[start:stop] is, or UNNAMED."""
    begin = 0
    for index in range(names.stops.size):
        if are_equal(text, start, stop, names.letters, begin, names.stops[index]):
            return index
        begin = names.stops[index]
    return UNNAMED


@compiled
def count_bytes(text: Text, character: int) -> int:
    """How often a byte occurs."""
    count = 0
    for byte in text:
        count += byte == character
    return count
