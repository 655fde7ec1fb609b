"""The paused batches of a lane: they have begun, and others have their turn."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Generic

from .batch import Batch, Entry, JobT, ResultT
from .flows import Flow
from .lane_threads import LaneThreads


class Standing(Generic[JobT, ResultT]):
    """The paused batches, each on a thread.

    Args:
        threads: of the lane.
        most: batches that may have begun and not ended.
        alone: of jobs that cost this or more, one at a time is in progress.
    """

    def __init__(self, threads: LaneThreads[JobT, Any], most: int, alone: float) -> None:
        self._threads = threads
        self._alone = alone
        self.most = most
        """Batches that may have begun and not ended."""
        self._batches: list[Batch[JobT, ResultT]] = []

    def __len__(self) -> int:
        """The number of paused batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch[JobT, ResultT]]:
        """The batches."""
        return iter(self._batches)

    def add(self, batch: Batch[JobT, ResultT]) -> None:
        """Add a batch that pauses."""
        batch.parts[0].flow.paused = True
        self._batches.append(batch)

    def remove(self, flow: Flow[Entry[JobT, ResultT]]) -> Batch[JobT, ResultT]:
        """The batch that `flow` leads, which goes on."""
        batch = next(batch for batch in self._batches if batch.parts[0].flow is flow)
        self._batches.remove(batch)
        flow.paused = False
        return batch

    def below(self) -> float:
        """The size below which a batch may begin. The last thread is for jobs that are smaller than all paused."""
        if not self._batches:
            return math.inf
        if len(self._threads) <= len(self._batches) < self.most and not self._threads.add():
            self.most = len(self._threads)
        sizes = [batch.parts[0].flow.size for batch in self._batches]
        if len(sizes) >= self.most:
            return -math.inf
        return min(sizes) if len(sizes) == self.most - 1 else math.inf

    def may_begin(self, entry: Entry[JobT, ResultT]) -> bool:
        """Whether no other job in progress must be alone as well, if this one must."""
        begun = (other for batch in self._batches for other in batch.entries)
        return entry.cost < self._alone or all(other.cost < self._alone for other in begun)
