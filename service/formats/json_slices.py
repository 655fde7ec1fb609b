"""JSON text of large values in slices, so that no call holds the interpreter's lock for long."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .arrays import to_json

# Numbers of one slice, which takes about half a millisecond. A small request needs the lock several times, and may wait
# for a slice each time.
SLICE = 1 << 13

_NESTED = frozenset({dict, list, tuple, np.ndarray})


def size(value: Any) -> int:
    """The number of scalars in dicts, lists and ndarrays. A list has either scalars or nested values."""
    kind = type(value)
    if kind is np.ndarray:
        return int(value.size)
    if kind is dict:
        value = value.values()
    elif kind not in _NESTED:
        return 1
    elif value and type(value[0]) not in _NESTED:
        return len(value)
    count = 0
    for item in value:  # most items are scalars, for which a call would take longer than all else
        count += size(item) if type(item) in _NESTED else 1
    return count


def slices(value: Any, most: int = SLICE) -> Iterator[bytes]:
    """The parts of `to_json(value)`, each with at most `most` scalars. Raises TypeError where `to_json` does."""
    if size(value) <= most or type(value) not in _NESTED:
        yield to_json(value)
    elif isinstance(value, dict):
        for index, (key, item) in enumerate(value.items()):
            if not isinstance(key, str):
                raise TypeError(f"a key of JSON is a string, not {type(key).__name__}")
            yield (b"," if index else b"{") + to_json(key) + b":"
            yield from slices(item, most)
        yield b"}"
    else:
        separator = b"["
        for group in _groups(value, most):
            yield separator
            if len(group) > 1 or size(group) <= most:
                yield to_json(group)[1:-1]
            else:
                yield from slices(group[0], most)
            separator = b","
        yield b"]"


def _groups(value: Any, most: int) -> Iterator[Any]:
    """Parts of a list or an array (n, ...) with at most `most` scalars each, or with one item."""
    if isinstance(value, np.ndarray) or type(value[0]) not in _NESTED:
        width = math.prod(value.shape[1:]) if isinstance(value, np.ndarray) else 1
        step = max(1, most // width)
        for start in range(0, len(value), step):
            yield value[start : start + step]
        return
    group: list[Any] = []
    count = 0
    for item in value:
        added = size(item)
        if group and count + added > most:
            yield group
            group, count = [], 0
        group.append(item)
        count += added
    yield group
