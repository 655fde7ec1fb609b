"""How long batches take, from the duration of recent ones."""

from __future__ import annotations

from typing import Any

from .flows import Flow

# Weight of the latest batch in the running mean of seconds per batch.
SMOOTHING = 0.2
# Longer batches count as this multiple of the mean, so that one unusual batch does not inflate the forecast.
MAX_GROWTH = 2.0


class Forecast:
    """Running means of the seconds of batches for each of their jobs: of each size class, and of all."""

    def __init__(self) -> None:
        self._of_size: dict[int, float] = {}
        self._of_all = 0.0

    def observe(self, size: int, seconds: float, jobs: int) -> None:
        """Note that a batch of `jobs` of this size class took `seconds`."""
        seconds /= jobs
        self._of_size[size] = _mean(self._of_size.get(size, 0.0), seconds)
        self._of_all = _mean(self._of_all, seconds)

    def seconds(self, size: int, jobs: int = 1) -> float:
        """Seconds of `jobs` jobs of a size class, by the mean of all sizes if this one is unknown; 0 at first."""
        return jobs * self._of_size.get(size, self._of_all)

    def jobs_within(self, size: int, seconds: float, most: int) -> int:
        """The number of jobs of a size class, from 1 to `most`, that take at most `seconds` together."""
        each = self.seconds(size)
        return most if each * most <= seconds else max(1, int(seconds / each))

    def waiting(self, flow: Flow[Any]) -> float:
        """Seconds of the jobs of a flow that wait."""
        return self.seconds(flow.size, flow.items)


def _mean(mean: float, seconds: float) -> float:
    return mean + (min(seconds, mean * MAX_GROWTH) - mean) * SMOOTHING if mean else seconds
