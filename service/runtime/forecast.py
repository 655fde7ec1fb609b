"""How long batches take, from the duration of recent ones."""

from __future__ import annotations

import math
from typing import Any

from .flows import Flow

# Weight of the latest batch in the means, and in the fit of their shape, which needs batches of several lengths.
SMOOTHING, SHAPE_SMOOTHING = 0.2, 0.03
# A longer batch counts as this multiple of the forecast, so that one unusual batch does not inflate it.
MAX_GROWTH = 2.0
# While all batches have about as many jobs, more jobs are assumed to take no longer, so that larger batches are tried.
# Each is larger than all before by this factor at most.
OPTIMISM, MAX_LARGER = 0.01, 1.5
# The least part of the seconds of a batch that its jobs take.
LEAST_OF_JOBS = 0.05


class _Sums:
    """Sums over batches, in which recent ones have more weight."""

    __slots__ = ("_keep", "batches", "jobs", "products", "seconds", "squares")

    def __init__(self, smoothing: float) -> None:
        self._keep = 1 - smoothing
        self.batches = self.jobs = self.seconds = self.squares = self.products = 0.0

    def add(self, seconds: float, jobs: int) -> None:
        """Add a batch of `jobs` that took `seconds`."""
        keep = self._keep
        self.batches = keep * self.batches + 1
        self.jobs = keep * self.jobs + jobs
        self.seconds = keep * self.seconds + seconds
        self.squares = keep * self.squares + jobs * jobs
        self.products = keep * self.products + jobs * seconds


class Means:
    """The batches of one kind. One of n jobs takes `fixed` + `each` * n seconds.

    The ratio of the two parts is fitted by least squares to many batches, and their scale to few.
    """

    __slots__ = ("_many", "each", "few", "fixed", "largest")

    def __init__(self) -> None:
        self.few, self._many = _Sums(SMOOTHING), _Sums(SHAPE_SMOOTHING)
        self.fixed = self.each = 0.0
        self.largest = 0
        """The most jobs of a batch."""

    def add(self, seconds: float, jobs: int) -> None:
        """Note that a batch of `jobs` took `seconds`."""
        few, many = self.few, self._many
        if few.batches:
            seconds = min(seconds, MAX_GROWTH * (self.fixed + self.each * jobs))
        few.add(seconds, jobs)
        many.add(seconds, jobs)
        self.largest = max(self.largest, jobs)
        mean_jobs, mean_seconds = many.jobs / many.batches, many.seconds / many.batches
        spread = many.squares / many.batches - mean_jobs * mean_jobs
        slope = (many.products / many.batches - mean_jobs * mean_seconds) / (spread + OPTIMISM * mean_jobs * mean_jobs)
        whole = few.seconds / few.batches
        if not mean_seconds:  # the clock did not advance
            self.fixed = self.each = 0.0
            return
        # The part of the jobs in the seconds of a batch of mean size, of many batches and then of few.
        part = min(max(slope * mean_jobs / mean_seconds, LEAST_OF_JOBS), 1.0)
        ratio = few.jobs / few.batches / mean_jobs
        part = part * ratio / (1 - part + part * ratio)
        self.each = part * few.seconds / few.jobs
        self.fixed = (1 - part) * whole


class Forecast:
    """The seconds of batches of each size class, and of all for those that are unknown; 0 at first."""

    def __init__(self) -> None:
        self._of_size: dict[int, Means] = {}
        self._of_all = Means()

    def observe(self, size: int, seconds: float, jobs: int) -> None:
        """Note that a batch of `jobs` of this size class took `seconds`."""
        means = self._of_size.get(size)
        if means is None:
            means = self._of_size[size] = Means()
        means.add(seconds, jobs)
        self._of_all.add(seconds, jobs)

    def _means(self, size: int) -> Means:
        return self._of_size.get(size, self._of_all)

    def batch(self, size: int, jobs: int) -> float:
        """Seconds of one batch of `jobs`."""
        means = self._means(size)
        return means.fixed + means.each * jobs

    def next_batch(self, size: int, most: float) -> float:
        """Seconds of a batch that fills as recent ones did, at most `most` if it has more than one job."""
        means = self._means(size)
        few = means.few
        return max(means.fixed + means.each, min(most, few.seconds / few.batches)) if few.batches else 0.0

    def jobs_within(self, size: int, seconds: float, most: int) -> int:
        """The number of jobs, from 1 to `most`, that take at most `seconds` in one batch."""
        means = self._means(size)
        # As many as surely fit, because a larger batch takes no longer for each of its jobs.
        sure = seconds * means.few.jobs / means.few.seconds if means.few.seconds else math.inf
        if sure >= most:
            return most
        most = min(most, max(2, int(sure), int(MAX_LARGER * means.largest)))
        return min(most, max(1, int((seconds - means.fixed) / means.each)))

    def waiting(self, flow: Flow[Any]) -> float:
        """Seconds of the jobs of a flow that wait, in batches of as many jobs as recent ones."""
        few = self._means(flow.size).few
        return flow.items * few.seconds / few.jobs if few.jobs else 0.0
