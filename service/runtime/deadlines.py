"""How a lane meets the deadlines of its jobs: which jobs it refuses, and how long its batches are.

All results of a batch come at its end. So a batch is short compared with the time that its jobs were given. A job is
admitted if it and a whole batch are predicted to end in time. Predictions fail. A job that has become too late is
refused when its turn comes, before the worker computes it.
"""

from __future__ import annotations

import math
from itertools import islice
from typing import Any

from ..errors import Overloaded
from .batch import Entry
from .flows import Flow
from .forecast import Forecast
from .limits import Limits

# The part of its time in which a job must be predicted to end, because batches scatter.
MARGIN = 0.8
# A batch of several jobs may take the first part of the time that each of them was given. It may take up to the second
# part where one job alone takes half as long. A job that arrives may wait for one batch to end before its own begins.
BATCH_PART, MOST_BATCH_PART = 1 / 3, 0.6
# Batches may take this multiple of the time of one job. The fixed time of a batch would otherwise prevail.
BATCH_MULTIPLE = 2.0


class Deadlines:
    """The deadlines of the jobs in one queue.

    Args:
        forecast: of the lane.
        limits: of the lane.
    """

    def __init__(self, forecast: Forecast, limits: Limits) -> None:
        self._forecast = forecast
        self._limits = limits

    def check(self, size: int, wait: float, timeout: float) -> None:
        """Check that a job that waits for `wait` seconds, if for any, can end within `timeout`.

        Raises:
            Overloaded: it is predicted to end later.
        """
        if wait:
            end = wait + self._forecast.next_batch(size, self._batch_seconds(size, timeout))
            if end > MARGIN * timeout:
                raise _too_late(end, timeout, end)

    def late(self, flow: Flow[Any], now: float) -> Entry[Any, Any] | None:
        """The next job of a flow, if it can no longer end in time with a batch of a useful length."""
        entry: Entry[Any, Any] = flow.first()
        return entry if entry.deadline < math.inf and now + self._needed(flow) > entry.deadline else None

    def refusal(self, flow: Flow[Any], entry: Entry[Any, Any], now: float) -> Overloaded:
        """The error of a job that `late` has found."""
        return _too_late(self._needed(flow), max(0.0, entry.deadline - now))

    def most_jobs(self, flow: Flow[Any], now: float) -> int:
        """How many jobs the next batch of a flow may have."""
        limits, forecast, size = self._limits, self._forecast, flow.size
        seconds = self._batch_seconds(size)
        most = forecast.jobs_within(size, seconds, limits.batch_items)
        for jobs, entry in enumerate(islice(next(iter(flow.keys.values())), most), 1):
            if entry.deadline < math.inf:
                allowed = min(self._batch_seconds(size, entry.timeout), entry.deadline - now)
                if allowed < seconds:
                    seconds = allowed
                    most = forecast.jobs_within(size, seconds, most)
            if jobs >= most:
                break
        return most

    def _batch_seconds(self, size: int, timeout: float = math.inf) -> float:
        """Seconds that a batch may take whose jobs have `timeout` seconds."""
        multiple = BATCH_MULTIPLE * self._forecast.batch(size, 1)
        return min(max(min(self._limits.batch_seconds, BATCH_PART * timeout), multiple), MOST_BATCH_PART * timeout)

    def _needed(self, flow: Flow[Any]) -> float:
        """Seconds of the shortest useful batch of a flow: of one job if no others can join it."""
        one = self._forecast.batch(flow.size, 1)
        others = len(next(iter(flow.keys.values())))
        return min(BATCH_MULTIPLE * one, self._forecast.batch(flow.size, others))


def _too_late(seconds: float, allowed: float, predicted: float = 0.0) -> Overloaded:
    return Overloaded(
        f"this takes about {seconds:.3g} s, too long for the {allowed:.3g} s allowed; allow more or retry later",
        retry_after=seconds,
        predicted=predicted,
    )
