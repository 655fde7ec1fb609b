"""Mutations of the fields of a request: a value becomes one that the schema, the checks or the mathematics mind."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

# Numbers on the edges of float64, of integers, and of the ranges that requests allow.
NUMBERS: tuple[float | int, ...] = (
    0, 1, -1, 2, 0.5, 255, 256, 1e-9, 1e9, 1e-150, 1e150, 1e-160, 1e154, 1e-308, 5e-324, 1.7976931348623157e308, -1e308,
    -0.0, 2**31, 2**53 + 1, 2**63, 10**40, 0.1 + 0.2, 1 - 2**-53, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
OTHERS: tuple[Any, ...] = (None, True, False, "", "auto", "0", "σ\0", [], {}, [[]], [[1, 2], [3]], "x" * 3000)
# Whole numbers above this are not scaled: they would be counts for which the service rightly works for a long time.
_LARGEST_COUNT = 200


def mutated(fields: dict[str, Any], rng: random.Random, hostile: float) -> dict[str, Any]:
    """The fields after one to three mutations.

    Args:
        fields: of the request; they are not changed.
        hostile: share of the mutations that the schema is likely to refuse. The others keep types and shapes, so that
            the request is likely to reach an engine.
    """
    changed: dict[str, Any] = _copied(fields)
    for _ in range(rng.choice((1, 1, 2, 3))):
        holder, key = _place(changed, rng)
        if holder is None:
            break
        kinds = _HOSTILE if rng.random() < hostile else _GENTLE
        rng.choice(kinds)(holder, key, rng)
    return changed


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(part) for name, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list) else value


def _place(fields: dict[str, Any], rng: random.Random) -> tuple[Any, Any]:
    """A random place in the tree: its container and the key there. Each level down is taken with one chance in two."""
    if not fields:
        return None, None
    holder: Any = fields
    key: Any = rng.choice(list(fields))
    while rng.random() < 0.6:
        value = holder[key]
        if not isinstance(value, (dict, list)) or not value:
            break
        holder, key = value, rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    return holder, key


def _scaled(value: Any, factor: float) -> Any:
    if isinstance(value, list):
        return [_scaled(part, factor) for part in value]
    return value * factor if isinstance(value, float) else value


def _scale(holder: Any, key: Any, rng: random.Random) -> None:
    """Multiply a number, or all numbers of an array, by a power of ten."""
    holder[key] = _scaled(holder[key], 10.0 ** rng.choice((-300, -160, -20, -6, 3, 6, 7, 20, 150, 300)))


def _number(holder: Any, key: Any, rng: random.Random) -> None:
    value = holder[key]
    if isinstance(value, float):
        holder[key] = float(rng.choice(NUMBERS[:18]))
    elif isinstance(value, int) and not isinstance(value, bool):
        holder[key] = rng.randint(0, max(2, min(value * 2, _LARGEST_COUNT)))


def _equal(holder: Any, key: Any, rng: random.Random) -> None:
    """Make all parts of an array equal to one of them: points in one place, columns without extent."""
    value = holder[key]
    if isinstance(value, list) and value:
        holder[key] = [_copied(rng.choice(value))] * len(value)


def _shuffle(holder: Any, key: Any, rng: random.Random) -> None:
    if isinstance(holder[key], list):
        rng.shuffle(holder[key])


def _longer(holder: Any, key: Any, rng: random.Random) -> None:
    """Repeat, drop or add parts of an array, all of one shape."""
    value = holder[key]
    if isinstance(value, list) and value:
        holder[key] = [_copied(rng.choice(value)) for _ in range(rng.randint(1, len(value) + 3))]


def _round(holder: Any, key: Any, rng: random.Random) -> None:
    def rounded(value: Any) -> Any:
        if isinstance(value, list):
            return [rounded(part) for part in value]
        return float(round(value)) if isinstance(value, float) and abs(value) < 1e300 else value

    holder[key] = rounded(holder[key])


def _drop(holder: Any, key: Any, rng: random.Random) -> None:
    del holder[key]


def _replace(holder: Any, key: Any, rng: random.Random) -> None:
    holder[key] = _copied(rng.choice((*NUMBERS, *OTHERS)))


def _rename(holder: Any, key: Any, rng: random.Random) -> None:
    if isinstance(holder, dict):
        holder[rng.choice((f"{key}s", str(key).upper(), "", "matrix", "init.matrix", "\udcff"))] = _copied(holder[key])


def _wrap(holder: Any, key: Any, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 2, 60, 400))):
        holder[key] = [holder[key]]


Mutation = Callable[[Any, Any, random.Random], None]
_GENTLE: tuple[Mutation, ...] = (_scale, _scale, _number, _number, _equal, _shuffle, _longer, _round)
_HOSTILE: tuple[Mutation, ...] = (_drop, _replace, _replace, _rename, _wrap)
