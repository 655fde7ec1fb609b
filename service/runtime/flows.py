"""What a fair queue keeps of its callers: their flows of jobs, and the seconds that they have had."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar


class Entry(Protocol):
    """A job that waits."""

    key: Hashable
    """Jobs share a batch only if their keys are equal."""
    cost: float
    flow: Flow[Any]
    """Where it waits; `FairQueue.put` sets it."""


EntryT = TypeVar("EntryT", bound=Entry)


def size_class(size: float) -> int:
    """The class of a job by its size: sizes of one class differ by a factor of less than four."""
    return math.frexp(size)[1] >> 1


class Flow(Generic[EntryT]):
    """The waiting jobs of one caller that are of about one size."""

    __slots__ = ("begun", "caller", "cost", "held", "items", "keys", "paused", "seconds", "size")

    def __init__(self, caller: Caller[EntryT], size: int) -> None:
        self.caller = caller
        self.size = size
        self.seconds = 0.0
        """Virtual time."""
        self.keys: OrderedDict[Hashable, OrderedDict[EntryT, None]] = OrderedDict()
        self.items = 0
        self.cost = 0.0
        self.held = 0
        """Batches with jobs of this flow that have begun and not ended."""
        self.begun = False
        """Whether it leads one of them. Then no other begins."""
        self.paused = False
        """Whether the one that it leads waits for its next turn."""

    def first(self) -> EntryT:
        """The next of the jobs that wait."""
        return next(iter(next(iter(self.keys.values()))))


class Caller(Generic[EntryT]):
    """The flows of one caller."""

    __slots__ = ("active", "begun", "flows", "name", "now", "seconds")

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.seconds = seconds
        """Virtual time."""
        self.flows: dict[int, Flow[EntryT]] = {}
        self.active: dict[int, Flow[EntryT]] = {}
        """Those with jobs that wait or have begun."""
        self.now = 0.0
        """The virtual time at which a flow begins that was idle."""
        self.begun = 0
        """Batches led by its flows that have begun and not ended."""


class Part(NamedTuple, Generic[EntryT]):
    """The part of one flow in a batch."""

    flow: Flow[EntryT]
    share: float
    """Of the cost of the batch."""
