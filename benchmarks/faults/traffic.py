"""Clients that send a mixture: over connections that are kept, over short ones, and some that hang up."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress

from benchmarks.faults.judging import PATIENCE, Client, Known
from benchmarks.faults.ledger import Fate, Ledger
from benchmarks.faults.mixture import MALFORMED

# Shares of the requests.
SHORT, HANG_UP, MALFORMED_SHARE = 0.15, 0.04, 0.02


class Traffic:
    """Clients that send until `stop` is called; each pauses for an exponential time between its requests.

    Args:
        port: of the service.
        known: the requests and their answers.
        ledger: in which each request is settled.
        clients: number of clients.
        pause: mean seconds between an answer and the client's next request.
        is_polite: whether no client hangs up or sends bytes that are no request.
    """

    def __init__(
        self, port: int, known: Sequence[Known], ledger: Ledger, clients: int, pause: float, *, is_polite: bool = False
    ) -> None:
        self._port, self._known, self._ledger = port, known, ledger
        self._pause, self._is_polite = pause, is_polite
        self._stopped = asyncio.Event()
        self._clients = [Client(port, ledger) for _ in range(clients)]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to send."""
        self._tasks = [asyncio.create_task(self._send(number)) for number in range(len(self._clients))]

    async def stop(self) -> None:
        """Send no more, and wait for all answers. Raises what a client raised."""
        self._stopped.set()
        await asyncio.gather(*self._tasks)
        for client in self._clients:
            client.close()

    async def run(self, seconds: float) -> None:
        """Send for some seconds."""
        self.start()
        await asyncio.sleep(seconds)
        await self.stop()

    def expect_ends(self, fate: Fate) -> None:
        """From now on a request whose connection ends before its answer has this fate."""
        for client in self._clients:
            client.ended = fate

    async def _send(self, number: int) -> None:
        rng = random.Random(number)  # noqa: S311
        while not self._stopped.is_set():
            known, kind = rng.choice(self._known), 1.0 if self._is_polite else rng.random()
            if kind < HANG_UP:
                await hang_up(self._port, known, self._ledger)
            elif kind < HANG_UP + MALFORMED_SHARE:
                await malformed(self._port, rng.choice(MALFORMED), self._ledger)
            else:
                if kind < HANG_UP + MALFORMED_SHARE + SHORT:
                    self._clients[number].close()
                await self._clients[number].ask(known)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), rng.expovariate(1 / self._pause))


async def hang_up(port: int, known: Known, ledger: Ledger, after: float = 0.0) -> None:
    """Send a request, and close the connection `after` seconds without waiting for the answer."""
    ledger.offer()
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(known.request)
        await writer.drain()
        await asyncio.sleep(after)
        writer.transport.abort()
    except OSError as error:
        ledger.settle(Fate.LOST, f"hang-up: {error}")
    else:
        ledger.settle(Fate.WITHDRAWN)


async def malformed(port: int, content: bytes, ledger: Ledger) -> None:
    """Send bytes that are no request. The right answer is a 400 and the end of the connection."""
    ledger.offer()
    answer = await exchange(port, content)
    if answer is None:
        ledger.settle(Fate.LOST, f"neither an answer nor an end to {content[:30]!r}")
    elif answer.startswith(b"HTTP/1.1 400 "):
        ledger.settle(Fate.ANSWERED)
    else:
        is_refused = answer.startswith(b"HTTP/1.1 503 ")
        ledger.settle(Fate.REFUSED if is_refused else Fate.WRONG, f"{content[:30]!r}: {answer[:200]!r}")


async def exchange(port: int, content: bytes, patience: float = PATIENCE) -> bytes | None:
    """What the service sends in answer to `content` on a new connection, until it closes it.

    None if it neither answers nor closes the connection within `patience` seconds, or refuses the connection.
    """
    received = b""
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(content)
                with suppress(ConnectionError):
                    while piece := await reader.read(1 << 16):
                        received += piece
            finally:
                writer.transport.abort()
    except (TimeoutError, OSError):
        return received or None
    return received
