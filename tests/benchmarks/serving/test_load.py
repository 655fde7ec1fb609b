"""The load generator against servers with known behaviour."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import uvloop

from benchmarks.serving.connection import Answer, Call, Caller, to_bytes
from benchmarks.serving.contenders import CONTENDERS, FIRST_SEED
from benchmarks.serving.figures import Sample
from benchmarks.serving.load import Bodies, Load, drive

Respond = Callable[[bytes], Awaitable[bytes]]


async def answered(respond: Respond, client: Callable[[int], Awaitable[Sample | Answer]]) -> Sample | Answer:
    """The client's result against a server that answers each request head with the bytes of `respond`."""
    tasks = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            while True:
                writer.write(await respond(await reader.readuntil(b"\r\n\r\n")))
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        return await client(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


def load(respond: Respond, load: Load) -> Sample:
    sample = uvloop.run(answered(respond, lambda port: drive(port, load)))
    assert isinstance(sample, Sample)
    return sample


def answer(status: int = 200, body: bytes = b"ok") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


GET = Bodies((b"GET / HTTP/1.1\r\n\r\n",))


def test_an_answer_in_pieces_is_put_together() -> None:
    body = bytes(range(256)) * 1000
    whole = answer(body=body)

    async def call(port: int) -> Answer:
        caller = Caller(port)
        first, second = await caller(Call("GET", "/a")), await caller(Call("GET", "/b"))
        caller.close()
        assert first == second
        return first

    async def respond(request: bytes) -> bytes:
        return whole

    result = uvloop.run(answered(respond, call))
    assert isinstance(result, Answer)
    assert (result.status, result.body) == (200, body)
    assert result.header(b"content-length") == b"%d" % len(body)
    assert result.header(b"etag") == b""


def test_an_open_loop_sends_the_scheduled_requests_and_a_closed_one_counts_every_answer() -> None:
    seen = []

    async def respond(request: bytes) -> bytes:
        seen.append(request)
        return answer()

    sample = load(respond, Load(GET, 4, 0.5, rate=200))
    assert (len(seen), len(sample.latencies), sample.requests) == (100, 100, 100)
    assert (sample.errors, sample.unanswered) == (0, 0)
    seen.clear()
    sample = load(respond, Load(GET, 4, 0.1))
    assert sample.requests == len(seen)
    # Those of the warm-up have no latency.
    assert 0 < len(sample.latencies) < sample.requests


def test_latency_in_an_open_loop_counts_from_the_intended_start() -> None:
    """One connection, answers after 20 ms, requests every 10 ms: request i waits i * 10 ms longer than it would."""

    async def respond(request: bytes) -> bytes:
        await asyncio.sleep(0.02)
        return answer()

    sample = load(respond, Load(GET, 1, 0.2, rate=100))
    assert len(sample.latencies) == 20
    # A timer never fires early by more than its resolution of a millisecond.
    assert all(late >= (i + 1) * 0.019 - i * 0.01 for i, late in enumerate(sample.latencies))


def test_errors_and_missing_answers_are_counted_apart() -> None:
    number = 0

    async def respond(request: bytes) -> bytes:
        nonlocal number
        number += 1
        if number == 10:
            await asyncio.Event().wait()
        return answer(503 if number <= 3 else 200)

    sample = load(respond, Load(GET, 1, 0.2, rate=100))
    assert (len(sample.latencies), sample.errors, sample.unanswered) == (6, 3, 11)


def test_requests_of_a_contender_have_one_seed_each_and_a_right_length() -> None:
    for contender in CONTENDERS.values():
        stream = contender.seeds(FIRST_SEED).stream(0)
        first, second = next(stream), next(stream)
        assert first.count(b"1000000000") == second.count(b"1000000001") == 1
        head, _, body = first.partition(b"\r\n\r\n")
        assert (b"content-length: %d" % len(body) in head) == bool(body)


def test_clients_of_one_load_never_ask_the_same() -> None:
    seeds = CONTENDERS["mosec"].seeds(FIRST_SEED)
    streams = [seeds.stream(client) for client in range(3)]
    assert len({next(stream) for stream in streams for _ in range(100)}) == 300


def test_a_call_becomes_a_request_with_its_body() -> None:
    assert to_bytes(Call("POST", "/a", {"b": [1]})).endswith(b'content-length: 9\r\n\r\n{"b":[1]}')
    assert b"content-type: application/x-npz\r\n" in to_bytes(Call("POST", "/a", b"PK", "application/x-npz"))
