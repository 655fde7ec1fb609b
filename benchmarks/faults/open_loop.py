"""An open loop of requests that are judged: arrivals at a constant rate, whatever becomes of those before."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from benchmarks.faults.judging import PATIENCE, Known, fate_of
from benchmarks.faults.ledger import Fate, Ledger
from benchmarks.serving.connection import Answer, Connection
from benchmarks.serving.figures import arrivals, percentile

# More requests than this are not in flight at once; further arrivals wait in the generator, and their latency has that.
CONNECTIONS = 512
# Seconds between two looks at the arrivals, which are at most late by this: a look costs as much as sending a request.
TICK = 0.005


class Load(NamedTuple):
    """What an open loop saw of the answered requests, in seconds from their intended starts."""

    rate: float  # offered, a second
    seconds: float  # for which requests were offered
    latencies: tuple[float, ...]
    refusals: tuple[float, ...]  # without those that were too late
    too_late: int  # requests whose deadline passed: 504
    in_time: int  # answers that came while requests were still offered
    generator: float  # processors that the generator took

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
    """Sends known requests at a rate over CONNECTIONS kept connections, and settles each in `ledger`.

    It works with callbacks, because a task for each request would take as much of the cores as the service needs to
    refuse it.
    """

    def __init__(self, port: int, known: Sequence[Known], ledger: Ledger, extra: bytes = b"") -> None:
        self._port, self._known, self._ledger = port, known, ledger
        self._requests = [one.request.replace(b"\r\n\r\n", b"\r\n" + extra + b"\r\n", 1) for one in known]
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiting: deque[int] = deque()  # arrivals that found no connection
        self._opening: set[asyncio.Task[None]] = set()
        self._intended: list[float] = []
        self._latencies: list[float] = []
        self._refusals: list[float] = []
        self._too_late = 0
        self._open = 0
        self._settled = asyncio.Event()

    async def run(self, rate: float, seconds: float) -> Load:
        """Offer `rate` requests a second for some seconds, and wait for all answers."""
        self._latencies, self._refusals, self._too_late = [], [], 0
        missing = CONNECTIONS - len(self._connections) - len(self._opening)
        await asyncio.gather(*(self._connect() for _ in range(missing)), *self._opening)
        times = arrivals(rate, seconds, seed=int(rate))
        start, spent = time.perf_counter(), time.process_time()
        self._intended = (start + times).tolist()
        for number, at in enumerate(self._intended):
            if at > time.perf_counter():
                await asyncio.sleep(max(TICK, at - time.perf_counter()))
            self._arrive(number)
        # If the generator itself fell behind, its rates must show it.
        seconds = max(seconds, time.perf_counter() - start)
        in_time, spent = len(self._latencies), time.process_time() - spent
        await self._end()
        return Load(
            len(self._intended) / seconds,
            seconds,
            tuple(self._latencies),
            tuple(self._refusals),
            self._too_late,
            in_time,
            spent / seconds,
        )

    async def _end(self) -> None:
        """Wait for all answers. What has none after PATIENCE is lost."""
        self._settled.clear()
        if not self._open:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), PATIENCE)
        for connection in [one for one in self._connections if one.index >= 0]:
            connection.close()
            self._closed(connection, "no answer")
        while self._waiting:
            self._settle(self._waiting.popleft(), Fate.LOST, "it was never sent")

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self._answered), "127.0.0.1", self._port)
        self._connections.add(connection)
        self._free(connection)

    def _arrive(self, number: int) -> None:
        self._ledger.offer()
        self._open += 1
        if self._idle:
            self._send(self._idle.pop(), number)
        else:
            self._waiting.append(number)

    def _free(self, connection: Connection) -> None:
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def _send(self, connection: Connection, number: int) -> None:
        connection.index = number
        connection.send(self._requests[number % len(self._requests)])

    def _answered(self, connection: Connection, answer: Answer | None) -> None:
        if answer is None:
            self._closed(connection, "the connection ended")
            return
        number, connection.index = connection.index, -1
        if number < 0:
            self._ledger.claim(False, f"an answer without a request: {answer.status} {answer.body[:200]!r}")
            return
        known = self._known[number % len(self._known)]
        fate, late = fate_of(answer, known.expected), time.perf_counter() - self._intended[number]
        if fate is Fate.ANSWERED:
            self._latencies.append(late)
        elif answer.status == 504:
            self._too_late += 1
        elif fate is Fate.REFUSED:
            self._refusals.append(late)
        self._settle(number, fate, f"{answer.status} {answer.body[:200]!r}" if fate is Fate.WRONG else "")
        if answer.header(b"connection") != b"close":  # it ends at once, and a new one takes its place
            self._free(connection)

    def _settle(self, number: int, fate: Fate, what: str) -> None:
        self._ledger.settle(fate, f"{self._known[number % len(self._known)].name}: {what}" if what else "")
        self._open -= 1
        if not self._open:
            self._settled.set()

    def _closed(self, connection: Connection, why: str) -> None:
        """Replace a connection that has ended, and count its request as lost."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        number, connection.index = connection.index, -1
        task = asyncio.get_running_loop().create_task(self._connect())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        if number >= 0:
            self._settle(number, Fate.LOST, why)

    def close(self) -> None:
        """Close all connections."""
        for task in self._opening:
            task.cancel()
        for connection in self._connections:
            connection.close()
