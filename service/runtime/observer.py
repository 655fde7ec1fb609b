"""Observers of a Batcher, which turn its events into metrics and logs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Observer(Protocol):
    """Receives the events of a Batcher. All calls come from the event loop."""

    def queued(self, items: int, cost: float) -> None:
        """The queue now holds `items` jobs with a total of `cost`."""

    def dispatched(self, waits: Sequence[float]) -> None:
        """A batch goes to the worker. `waits` are the seconds that each of its jobs was queued."""

    def finished(self, items: int, seconds: float) -> None:
        """The worker took `seconds` for a batch of `items` jobs."""

    def failed(self, error: BaseException) -> None:
        """The worker raised `error` for one job, alone in its batch."""


class SilentObserver:
    """Ignores all events."""

    def queued(self, items: int, cost: float) -> None:
        """Ignore the event."""

    def dispatched(self, waits: Sequence[float]) -> None:
        """Ignore the event."""

    def finished(self, items: int, seconds: float) -> None:
        """Ignore the event."""

    def failed(self, error: BaseException) -> None:
        """Ignore the event."""
