"""Totals over the snapshots of several processes.

A snapshot is the JSON that `instruments.snapshot` writes. Counters and histograms add up, and a gauge has a rule of its
own. Of the exemplars of one bucket, the newest remains.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson

Family = dict[str, Any]
"""The state of one instrument: name, help, labels, kind, and its series, each a list that begins with its labels."""

_RULES: dict[str, Callable[[float, float], float]] = {"sum": operator.add, "min": min, "max": max}


def total(snapshots: Iterable[bytes]) -> list[Family]:
    """The families of all snapshots, merged by name and labels, in order of first occurrence."""
    families: dict[str, Family] = {}
    series: dict[str, dict[tuple[str, ...], list[Any]]] = {}
    for snapshot in snapshots:
        for family in orjson.loads(snapshot):
            name = family["name"]
            families.setdefault(name, family)
            known = series.setdefault(name, {})
            for one in family["series"]:
                labels = tuple(one[0])
                known[labels] = _merged(family, known[labels], one) if labels in known else one
    return [family | {"series": list(series[name].values())} for name, family in families.items()]


def lasting(snapshots: Iterable[bytes]) -> bytes:
    """One snapshot of what remains of processes that ended: their counters and histograms, without gauges."""
    return orjson.dumps([family for family in total(snapshots) if family["kind"] != "gauge"])


def _merged(family: Family, first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    if family["kind"] != "histogram":
        return [first[0], _RULES[family["rule"]](first[1], second[1])]
    labels, counts, amount, exemplars = first
    _, more, other_amount, others = second
    return [
        labels,
        [a + b for a, b in zip(counts, more, strict=True)],
        amount + other_amount,
        [_newest(a, b) for a, b in zip(exemplars, others, strict=True)],
    ]


def _newest(first: Sequence[Any] | None, second: Sequence[Any] | None) -> Sequence[Any] | None:
    if first is None or second is None:
        return first or second
    return max(first, second, key=lambda exemplar: exemplar[2])
