"""A job that a Batcher holds, and a batch of them."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from .flows import Part
from .forecast import Forecast
from .turns import Turn

JobT = TypeVar("JobT")
ResultT = TypeVar("ResultT")


@dataclass(eq=False, slots=True)
class Entry(Generic[JobT, ResultT]):
    """A job in the queue or in a batch."""

    job: JobT
    key: Hashable
    cost: float
    arrived: float
    future: asyncio.Future[ResultT]
    context: contextvars.Context
    flow: Any = None
    timeout: float = math.inf
    deadline: float = math.inf


class Arrival(NamedTuple, Generic[JobT, ResultT]):
    """A job that has come: the arguments of `FairQueue.put`."""

    entry: Entry[JobT, ResultT]
    caller: str
    size: int


@dataclass(eq=False, slots=True)
class Batch(Generic[JobT, ResultT]):
    """Jobs that have begun. `parts` begins with the flow that leads it."""

    entries: list[Entry[JobT, ResultT]]
    parts: list[Part[Entry[JobT, ResultT]]]
    turn: Turn | None

    def left(self, forecast: Forecast) -> float:
        """Predicted seconds that it takes after its last pause."""
        whole = forecast.batch(self.parts[0].flow.size, len(self.entries))
        return whole if self.turn is None else max(0.0, whole - self.turn.charged)

    def silent_seconds(self, running_seconds: float) -> float:
        """Seconds for which the batch may have made no progress, after `running_seconds` without a pause."""
        return running_seconds if self.turn is None else min(running_seconds, self.turn.silent_seconds)


def deliver(
    entries: Sequence[Entry[JobT, ResultT]],
    outcomes: Sequence[ResultT | BaseException],
    explain: Callable[[BaseException], Exception],
) -> None:
    """End jobs with their outcomes. `explain` makes the error that a caller gets."""
    for entry, outcome in zip(entries, outcomes, strict=True):
        if isinstance(outcome, BaseException):
            # Run in the context of the request, so that the log line has its id.
            error = entry.context.run(explain, outcome)
            if not entry.future.done():
                entry.future.set_exception(error)
        elif not entry.future.done():
            entry.future.set_result(outcome)
