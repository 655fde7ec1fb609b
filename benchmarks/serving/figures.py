"""Arithmetic of a load test: percentiles, goodput, and the arrivals of an open loop. All times are in seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# An answer within this time is good.
GOOD_SECONDS = 0.05


class Sample(NamedTuple):
    """The outcome of one load on one server."""

    latencies: Float64  # of the answers with status 200, (n,); in an open loop counted from the intended starts
    seconds: float  # in which the answers arrived, or for which an open loop offered requests
    errors: int = 0  # answers of another status, and lost connections
    unanswered: int = 0  # requests of an open loop without an answer at its end
    server_seconds: float = 0.0  # processor time of the server
    client_seconds: float = 0.0  # processor time of the load generator
    requests: int = 0  # all requests that this processor time covers, the warm-up included

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    @property
    def goodput(self) -> float:
        """Answers within GOOD_SECONDS, a second."""
        return float(np.count_nonzero(self.latencies <= GOOD_SECONDS)) / self.seconds

    @property
    def good_share(self) -> float:
        """Share of all requests that were answered within GOOD_SECONDS."""
        total = len(self.latencies) + self.errors + self.unanswered
        return float(np.count_nonzero(self.latencies <= GOOD_SECONDS)) / total if total else math.nan

    def latency(self, share: float) -> float:
        """The time within which at least `share` of all requests were answered; infinite if fewer were.

        Unanswered requests count. An open loop that left them out would omit exactly the slowest requests.
        """
        return percentile(np.append(self.latencies, np.full(self.unanswered + self.errors, math.inf)), share)


def percentile(values: Float64, share: float) -> float:
    """The nearest-rank percentile: the smallest of `values` (n,) that at least `share` of them do not exceed.

    `share` is in (0, 1], and 1 gives the maximum. No values give NaN. There is no interpolation, so the result is a
    measured value.
    """
    if not len(values):
        return math.nan
    # The product may exceed a whole number by rounding, as in 0.07 * 100.
    rank = max(math.ceil(share * len(values) - 1e-9), 1)
    return float(np.partition(values, rank - 1)[rank - 1])


def arrivals(rate: float, seconds: float, seed: int | None = None) -> Float64:
    """Intended starts (n,) of an open loop, ascending in [0, seconds).

    Args:
        rate: requests a second.
        seconds: duration of the loop.
        seed: None spaces the starts evenly; a number draws a Poisson process.
    """
    if seed is None:
        return np.arange(math.ceil(rate * seconds - 1e-9)) / rate
    count = math.ceil(rate * seconds + 10 * math.sqrt(rate * seconds) + 10)
    starts = np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))
    return starts[starts < seconds]


def together(samples: list[Sample]) -> Sample:
    """The sample of several clients that loaded one server at the same time. Processor times are added."""
    latencies = np.concatenate([sample.latencies for sample in samples])
    seconds = sum(sample.seconds for sample in samples) / len(samples)
    return Sample(latencies, seconds, *(sum(column) for column in list(zip(*samples, strict=True))[2:]))


def shares(total: int, parts: int) -> Iterator[int]:
    """`total` things over `parts`, as evenly as possible."""
    for part in range(parts):
        yield total // parts + (part < total % parts)
