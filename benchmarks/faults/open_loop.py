"""An open loop of requests that are judged: arrivals at a constant rate, whatever becomes of those before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.faults.judging import PATIENCE, Known, fate_of
from benchmarks.faults.ledger import Fate, Ledger
from benchmarks.serving.connection import Caller
from benchmarks.serving.figures import arrivals, percentile

# More requests than this are not in flight at once; further arrivals wait in the generator, and their latency has that.
CONNECTIONS = 512


class Load(NamedTuple):
    """What an open loop saw of the answered requests, in seconds from their intended starts."""

    rate: float  # offered, a second
    seconds: float  # for which requests were offered
    latencies: tuple[float, ...]
    refusals: tuple[float, ...]  # without those that were too late
    too_late: int  # requests whose deadline passed: 504
    in_time: int  # answers that came while requests were still offered

    def good(self, within: float | None) -> float:
        """Right answers a second: those that came within `within` seconds, or else while requests were offered."""
        return (self.in_time if within is None else sum(late <= within for late in self.latencies)) / self.seconds

    def latency(self, share: float) -> float:
        """The time within which this share of the answered requests were answered."""
        return percentile(np.array(self.latencies), share)

    def refusal(self, share: float) -> float:
        """The time within which this share of the refused requests were refused."""
        return percentile(np.array(self.refusals), share)


class OpenLoop:
    """Sends known requests at a rate over up to CONNECTIONS kept connections, and settles each in `ledger`."""

    def __init__(self, port: int, known: Sequence[Known], ledger: Ledger, extra: bytes = b"") -> None:
        self._port, self._known, self._ledger, self._extra = port, known, ledger, extra
        self._idle: list[Caller] = []
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._latencies: list[float] = []
        self._refusals: list[float] = []
        self._too_late = 0

    async def run(self, rate: float, seconds: float) -> Load:
        """Offer `rate` requests a second for some seconds, and wait for all answers."""
        self._latencies, self._refusals, self._too_late = [], [], 0
        start = time.perf_counter()
        tasks = []
        for number, at in enumerate(arrivals(rate, seconds, seed=int(rate)).tolist()):
            if (wait := start + at - time.perf_counter()) > 0.001:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(self._send(self._known[number % len(self._known)], start + at)))
        # If the generator itself fell behind, its rates must show it.
        seconds = max(seconds, time.perf_counter() - start)
        in_time = len(self._latencies)
        await asyncio.gather(*tasks)
        return Load(
            len(tasks) / seconds, seconds, tuple(self._latencies), tuple(self._refusals), self._too_late, in_time
        )

    async def _send(self, known: Known, intended: float) -> None:
        self._ledger.offer()
        request = known.request.replace(b"\r\n\r\n", b"\r\n" + self._extra + b"\r\n", 1)
        async with self._places:
            caller = self._idle.pop() if self._idle else Caller(self._port)
            try:
                answer = await asyncio.wait_for(caller.raw(request), PATIENCE)
            except (TimeoutError, OSError) as error:
                caller.close()
                self._ledger.settle(Fate.LOST, f"{known.name}: {error!r}"[:300])
                return
            if answer.header(b"connection") == b"close":
                caller.close()
            self._idle.append(caller)
        fate, late = fate_of(answer, known.expected), time.perf_counter() - intended
        self._ledger.settle(fate, f"{known.name}: {answer.status} {answer.body[:200]!r}")
        if fate is Fate.ANSWERED:
            self._latencies.append(late)
        elif answer.status == 504:
            self._too_late += 1
        elif fate is Fate.REFUSED:
            self._refusals.append(late)

    def close(self) -> None:
        """Close all connections."""
        for caller in self._idle:
            caller.close()
