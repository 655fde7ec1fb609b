"""The open loop of judged requests against a server with known behaviour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from benchmarks.faults.judging import Known
from benchmarks.faults.ledger import Fate, Ledger
from benchmarks.faults.open_loop import Load, OpenLoop
from benchmarks.faults.traffic import exchange

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
RIGHT = (200, b"ok", b"", b"")


def known(path: bytes) -> Known:
    return Known(path.decode(), b"GET %b HTTP/1.1\r\n\r\n" % path, RIGHT)


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[int]:
    """The port of a server whose connections are all closed at the end of the block."""
    tasks = []

    async def until_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            await serve(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(until_end(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


async def story(kinds: list[bytes], rate: float, seconds: float) -> tuple[Ledger, Load, list[bytes]]:
    """The ledger and the load of requests to the paths `kinds` in turn; `/close` ends the connection."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            seen.append(head)
            if head.startswith(b"GET /close"):
                return
            if head.startswith(b"GET /full"):
                writer.write(b"HTTP/1.1 503 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
            elif head.startswith(b"GET /late"):
                writer.write(b"HTTP/1.1 504 X\r\nContent-Length: 0\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\nok")

    ledger = Ledger()
    async with served(serve) as port:
        loop = OpenLoop(port, [known(kind) for kind in kinds], ledger, b"x-timeout-seconds: 1\r\n")
        load = await loop.run(rate, seconds)
        loop.close()
        await asyncio.sleep(0)  # the transports close
    return ledger, load, seen


def test_each_arrival_is_offered_once_and_settled() -> None:
    ledger, load, seen = asyncio.run(story([b"/a", b"/full", b"/late", b"/close"], 200, 0.3))
    assert ledger.offered == len(seen) == ledger.fates.total()
    assert ledger.fates[Fate.ANSWERED] == len(load.latencies)
    assert ledger.fates[Fate.REFUSED] == len(load.refusals) + load.too_late
    quarters = [len(load.latencies), len(load.refusals), load.too_late, ledger.fates[Fate.LOST]]
    assert max(quarters) - min(quarters) <= 1
    assert sum(quarters) == ledger.offered > 20
    assert all(b"\r\nx-timeout-seconds: 1\r\n" in head for head in seen)


def test_goodput_counts_answers_within_the_deadline_or_while_requests_are_offered() -> None:
    load = Load(10.0, 2.0, (0.1, 0.2, 0.9, 3.0), (), 0, in_time=3, generator=0.0)
    assert load.good(0.5) == 1.0
    assert load.good(None) == 1.5
    assert load.latency(0.5) == 0.2


def test_an_exchange_ends_with_the_connection_and_a_refused_one_is_none() -> None:
    async def both() -> tuple[bytes | None, bytes | None]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(3))

        async with served(serve) as port:
            echoed = await exchange(port, b"abc")
        return echoed, await exchange(port, b"abc")

    assert asyncio.run(both()) == (b"abc", None)
