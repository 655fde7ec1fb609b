"""Bounds of a Batcher."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

# Callers without a waiting job may use this much more of the queue, so that others cannot block them.
RESERVE = 1 / 8


class Limits(NamedTuple):
    """Bounds of one Batcher. Costs are in the unit of its `cost` function: images, pairs or elements."""

    batch_items: int
    batch_cost: float
    queue_items: int
    queue_cost: float
    batch_seconds: float = math.inf
    """Predicted seconds of a batch of more than one job."""

    def is_full(self, items: int, cost: float, more: float, caller_waits: Callable[[], bool]) -> bool:
        """Whether a queue of `items` jobs and their `cost` has no room for one job that costs `more`.

        `caller_waits` tells whether other jobs of its caller wait. An empty queue accepts any job, even one above the
        queue's limit, which could otherwise never be served.
        """
        if items < self.queue_items and (cost + more <= self.queue_cost or not items):
            return False
        spare = 0.0 if caller_waits() else RESERVE
        return items >= self.queue_items + int(self.queue_items * spare) or cost + more > self.queue_cost * (1 + spare)
