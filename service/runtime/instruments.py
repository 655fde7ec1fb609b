"""Instruments that one process records: counters, gauges and histograms, and their snapshot as JSON.

They have no locks. All calls come from the event loop, so that recording a request costs about a microsecond.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import orjson

Labels = tuple[str, ...]
# How the values of several processes become one: their sum, the least or the greatest of them.
Rule = Literal["sum", "min", "max"]
Exemplar = tuple[str, float, float]
"""The id of a request, the observed value, and the Unix time in seconds."""


class Description(NamedTuple):
    """What an instrument measures: its name without the suffix `_total`, a sentence, and the names of its labels."""

    name: str
    help: str
    labels: Sequence[str] = ()


class Counter:
    """Numbers that only grow, one for each combination of labels."""

    def __init__(self, description: Description) -> None:
        self.description = description
        self.values: dict[Labels, float] = {}

    def add(self, labels: Labels = (), amount: float = 1) -> None:
        """Add `amount`, which is not negative."""
        self.values[labels] = self.values.get(labels, 0.0) + amount


class Gauge:
    """Numbers that rise and fall, one for each combination of labels."""

    def __init__(self, description: Description, rule: Rule = "sum") -> None:
        self.description = description
        self.rule = rule
        self.values: dict[Labels, float] = {}

    def set(self, value: float, labels: Labels = ()) -> None:
        """Replace the value."""
        self.values[labels] = value

    def add(self, amount: float, labels: Labels = ()) -> None:
        """Add `amount`, which may be negative."""
        self.values[labels] = self.values.get(labels, 0.0) + amount


class Series:
    """One histogram: the number of values at most each bound and above the last, their sum, the newest exemplars."""

    __slots__ = ("_bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.exemplars: list[Exemplar | None] = [None] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, request_id: str = "") -> None:
        """Count `value`. The `request_id` becomes the exemplar of its bucket."""
        bucket = bisect_left(self._bounds, value)
        self.counts[bucket] += 1
        self.total += value
        if request_id:
            self.exemplars[bucket] = request_id, value, time.time()


class Histogram:
    """Distributions of values over buckets, one for each combination of labels. `bounds` rise."""

    def __init__(self, description: Description, bounds: Sequence[float]) -> None:
        self.description = description
        self.bounds = bounds
        self.series: dict[Labels, Series] = {}

    def of(self, labels: Labels) -> Series:
        """The histogram of these labels."""
        found = self.series.get(labels)
        if found is None:
            found = self.series[labels] = Series(self.bounds)
        return found


Instrument = Counter | Gauge | Histogram


def snapshot(instruments: Sequence[Instrument], refresh: Callable[[], None] = lambda: None) -> bytes:
    """The present state of `instruments` as JSON, after a call of `refresh`."""
    refresh()
    return orjson.dumps([_state(instrument) for instrument in instruments])


def _state(instrument: Instrument) -> dict[str, object]:
    name, text, labels = instrument.description
    state: dict[str, object] = {"name": name, "help": text, "labels": labels}
    if isinstance(instrument, Histogram):
        series = [[key, one.counts, one.total, one.exemplars] for key, one in instrument.series.items()]
        return state | {"kind": "histogram", "bounds": instrument.bounds, "series": series}
    series = [[key, value] for key, value in instrument.values.items()]
    if isinstance(instrument, Gauge):
        return state | {"kind": "gauge", "rule": instrument.rule, "series": series}
    return state | {"kind": "counter", "rule": "sum", "series": series}
