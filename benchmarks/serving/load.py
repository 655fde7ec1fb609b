"""The load generator: a closed loop over k connections, or an open loop at a constant arrival rate.

In a closed loop each connection sends its next request when it has the answer, so a slow server slows its load down. In
an open loop the requests start at their intended times. One that finds all connections busy waits in the generator, and
its latency includes that wait. (Coordinated omission: G. Tene, "How not to measure latency", 2013.)
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from typing import NamedTuple, Protocol

import numpy as np
import uvloop

from benchmarks.serving.connection import Answer, Connection
from benchmarks.serving.figures import Sample, arrivals, shares, together

# Seconds before the measured time of a closed loop, and at most after it and after the last arrival of an open one.
WARM_UP, DRAIN, GRACE = 0.5, 10.0, 2.0
# Connections of an open loop. More requests than that wait in the generator.
OPEN_CONNECTIONS = 256
# Apart by more requests than one client sends, so that no two clients ask the same.
CLIENT_STRIDE = 10**8


class Seeds(NamedTuple):
    """Requests that differ in a ten-digit seed; none is sent twice. The seed stands between `head` and `tail`."""

    head: bytes
    tail: bytes
    first: int

    def stream(self, client: int) -> Iterator[bytes]:
        """Endless requests of one client."""
        for seed in itertools.count(self.first + client * CLIENT_STRIDE):
            yield b"%b%d%b" % (self.head, seed, self.tail)


class Bodies(NamedTuple):
    """Prepared requests, sent in turn."""

    requests: tuple[bytes, ...]

    def stream(self, client: int) -> Iterator[bytes]:
        """Endless requests of one client."""
        return itertools.islice(itertools.cycle(self.requests), client * 7, None)


class Requests(Protocol):
    """Where requests come from. It is sent to the processes of the load generator."""

    def stream(self, client: int) -> Iterator[bytes]:
        """Endless requests of one client."""
        ...


class Load(NamedTuple):
    """What to send. A `rate`, in requests a second, makes it an open loop of evenly spaced arrivals."""

    requests: Requests
    connections: int
    seconds: float
    rate: float | None = None
    status: int = 200  # of a right answer
    poisson_seed: int | None = None  # makes the arrivals of an open loop random


def run(port: int, load: Load, clients: int = 1) -> Sample:
    """Put `load` on the server at `port`, from one process or from several that share connections and rate.

    Raises:
        ConnectionError: the server refuses a connection.
    """
    if clients == 1:
        return uvloop.run(drive(port, load))
    parts = [
        load._replace(connections=connections, rate=load.rate and load.rate / clients)
        for connections in shares(load.connections, clients)
    ]
    with ProcessPoolExecutor(clients, get_context("spawn")) as pool:
        list(pool.map(abs, range(clients)))  # all processes have started
        return together(list(pool.map(_drive, [port] * clients, parts, range(clients))))


def _drive(port: int, load: Load, client: int) -> Sample:
    return uvloop.run(drive(port, load, client))


async def drive(port: int, load: Load, client: int = 0) -> Sample:
    """Put `load` on the server at `port` from the running event loop. Raises ConnectionError as `run` does."""
    if load.rate is None:
        return await _Closed(port, load, client).run()
    return await _Open(port, load, client).run()


class _Loop:
    """What both loops share: the connections, and the answers so far."""

    def __init__(self, port: int, load: Load, client: int) -> None:
        self._port, self._load = port, load
        self._stream = load.requests.stream(client)
        self._latencies: list[float] = []
        self._errors = self._requests = 0
        self._connections: list[Connection] = []

    async def _connect(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(count):
            _, connection = await loop.create_connection(lambda: Connection(self._answered), "127.0.0.1", self._port)
            self._connections.append(connection)

    def _answered(self, connection: Connection, answer: Answer | None) -> None:
        raise NotImplementedError

    def _sample(self, seconds: float, cpu: float, unanswered: int = 0) -> Sample:
        gc.unfreeze()
        for connection in self._connections:
            connection.close()
        return Sample(
            np.array(self._latencies),
            seconds,
            self._errors,
            unanswered,
            client_seconds=time.process_time() - cpu,
            requests=self._requests,
        )


class _Closed(_Loop):
    async def run(self) -> Sample:
        await self._connect(self._load.connections)
        gc.collect()
        gc.freeze()
        cpu, start = time.process_time(), time.perf_counter()
        self._busy, self._done = len(self._connections), asyncio.Event()
        self._from, self._until = start + WARM_UP, start + WARM_UP + self._load.seconds
        for connection in self._connections:
            self._send(connection)
        await asyncio.sleep(WARM_UP + self._load.seconds)
        # The processor time is divided by the number of requests, so it includes all that their answers take.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._done.wait(), DRAIN)
        return self._sample(self._load.seconds, cpu)

    def _send(self, connection: Connection) -> None:
        self._requests += 1
        connection.sent = time.perf_counter()
        connection.send(next(self._stream))

    def _answered(self, connection: Connection, answer: Answer | None) -> None:
        now = time.perf_counter()
        if answer is None or answer.status != self._load.status:
            self._errors += 1
        elif self._from <= now < self._until:
            self._latencies.append(now - connection.sent)
        if answer is not None and now < self._until:
            self._send(connection)
        else:
            self._busy -= 1
            if self._busy == 0:
                self._done.set()


class _Open(_Loop):
    def __init__(self, port: int, load: Load, client: int) -> None:
        super().__init__(port, load, client)
        seed = load.poisson_seed
        rate = load.rate or math.nan
        self._intended: Sequence[float] = arrivals(rate, load.seconds, seed if seed is None else seed + client).tolist()
        self._waiting: deque[int] = deque()  # arrivals that found no connection
        self._idle: list[Connection] = []
        self._answers = 0
        self._done = asyncio.Event()

    async def run(self) -> Sample:
        await self._connect(self._load.connections)
        self._idle += self._connections
        gc.collect()
        gc.freeze()
        cpu = time.process_time()
        self._start = time.perf_counter()
        arrived = 0
        while arrived < len(self._intended):
            now = time.perf_counter() - self._start
            while arrived < len(self._intended) and self._intended[arrived] <= now:
                self._arrive(arrived)
                arrived += 1
            if arrived < len(self._intended):
                # The loop's clock counts milliseconds. A shorter sleep would spin and take the server's processor.
                await asyncio.sleep(max(self._intended[arrived] - now, 0.001))
        # If the generator itself fell behind, its rates must show it.
        seconds = max(self._load.seconds, time.perf_counter() - self._start)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._done.wait(), GRACE)
        return self._sample(seconds, cpu, len(self._intended) - self._answers - self._errors)

    def _arrive(self, index: int) -> None:
        if self._idle:
            self._send(self._idle.pop(), index)
        else:
            self._waiting.append(index)

    def _send(self, connection: Connection, index: int) -> None:
        self._requests += 1
        connection.index = index
        connection.send(next(self._stream))

    def _answered(self, connection: Connection, answer: Answer | None) -> None:
        if answer is None or answer.status != self._load.status:
            self._errors += answer is not None or connection.index >= 0
        else:
            self._latencies.append(time.perf_counter() - self._start - self._intended[connection.index])
            self._answers += 1
        connection.index = -1
        if answer is not None:
            if self._waiting:
                self._send(connection, self._waiting.popleft())
            else:
                self._idle.append(connection)
        elif connection in self._idle:
            self._idle.remove(connection)
        if self._answers + self._errors == len(self._intended):
            self._done.set()
