"""The answer to a request: what reaches the socket, and in how many writes."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterable
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.server import ServerState

from service.web.cycle import MOST_JOINED, Cycle
from service.web.heads import completed
from service.web.protocol import Protocol

DATE = (b"date", b"today")
VALUES = st.binary(max_size=8)
FORBIDDEN = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class Recording(asyncio.Transport):
    """A transport, and the carrier of one cycle, that record what is done with them."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[bytes | str] = []
        self.is_read = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.events.append(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.events += map(bytes, list_of_data)

    def on_response_complete(self) -> None:
        self.events.append("complete")

    def ended(self, cycle: Cycle) -> None:
        self.events.append("ended")

    def close(self) -> None:
        self.events.append("close")

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True


def new(recording: Recording, method: str = "GET", *, keep_alive: bool = True) -> Cycle:
    return Cycle(recording, {"method": method}, recording, FlowControl(recording), [DATE], False, keep_alive)


def start(status: int, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def sent(method: str, *messages: dict[str, Any], keep_alive: bool = True) -> list[bytes | str]:
    """The events of a request whose application sends `messages`."""
    recording = Recording()

    async def application(_: Any, __: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    asyncio.run(new(recording, method, keep_alive=keep_alive).run_asgi(application))
    return recording.events


def head(line: bytes, *lines: bytes) -> bytes:
    return completed(b"\r\n".join([b"HTTP/1.1 " + line, b"date: today", *lines, b"", b""]))


def length(size: int) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % size


def test_a_head_and_the_first_part_of_its_body_are_one_write() -> None:
    events = sent("GET", start(200, length(9)), part(b"first", True), part(b"rest"))
    assert events == [head(b"200 OK", b"content-length: 9") + b"first", b"rest", "complete", "ended"]


@pytest.mark.parametrize(
    ("method", "status", "headers", "body", "line"),
    [("GET", 204, [], b"", b"204 No Content"), ("GET", 304, [], b"", b"304 Not Modified"),
     ("HEAD", 200, [length(5)], b"hello", b"200 OK")],
)  # fmt: skip
def test_a_head_without_a_body_is_written(
    method: str, status: int, headers: list[tuple[bytes, bytes]], body: bytes, line: bytes
) -> None:
    lines = [b"%b: %b" % header for header in headers]
    assert sent(method, start(status, *headers), part(body)) == [head(line, *lines), "complete", "ended"]


def test_a_body_of_unknown_length_is_sent_in_chunks() -> None:
    events = sent("GET", start(200), part(b"", True), part(b"0123456789abcdef", True), part(b""))
    begin = head(b"200 OK", b"transfer-encoding: chunked")
    assert events == [begin, b"10\r\n0123456789abcdef\r\n", b"0\r\n\r\n", "complete", "ended"]


@pytest.mark.parametrize(("keep_alive", "given"), [(False, []), (True, [(b"connection", b"x, Close")])])
def test_the_last_answer_of_a_connection_says_so_and_closes_it(
    keep_alive: bool, given: list[tuple[bytes, bytes]]
) -> None:
    first, *events = sent("GET", start(200, length(0), *given), part(b""), keep_alive=keep_alive)
    assert isinstance(first, bytes)
    assert first.lower().count(b"\r\nconnection: ") == 1
    assert events == ["close", "complete", "ended"]


@given(st.sampled_from(["GET", "HEAD"]), st.sampled_from([200, 204, 404]), VALUES, st.booleans(), st.binary())
def test_a_whole_answer_is_what_its_messages_are(
    method: str, status: int, value: bytes, keep_alive: bool, body: bytes
) -> None:
    body = b"" if status == 204 else body
    headers = [length(len(body)), (b"x-value", FORBIDDEN.sub(b"", value))]
    recording = Recording()
    assert new(recording, method, keep_alive=keep_alive).answer(status, headers, body)
    messages = start(status, *headers), part(body)
    assert [*recording.events, "ended"] == sent(method, *messages, keep_alive=keep_alive)


@given(st.binary(max_size=4), VALUES)
def test_no_header_can_end_its_line(name: bytes, value: bytes) -> None:
    cycle = new(recording := Recording())
    valid = re.fullmatch(rb"[^\x00-\x20\x7f()<>@,;:\[\]={}\\\"A-Z]+", name) and not FORBIDDEN.search(value)
    reserved = name in {b"connection", b"date"}
    if valid and not reserved:
        cycle.answer(204, [(name, value)], b"")
        assert recording.events[0] == head(b"204 No Content", name + b": " + value)
    elif not valid:
        with pytest.raises(RuntimeError):
            cycle.answer(204, [(name, value)], b"")
        assert recording.events == []


@pytest.mark.parametrize(
    "messages",
    [[part(b"early")], [start(200, length(1)), start(200)], [start(200, length(3)), part(b"long")],
     [start(200, length(3)), part(b"s")], [start(200, length(1)), part(b"x"), part(b"x")], [start(200, (b"a b", b""))]],
)  # fmt: skip
def test_an_application_that_breaks_a_rule_fails(messages: list[dict[str, Any]]) -> None:
    async def application(cycle: Cycle) -> None:
        for message in messages:
            await cycle(message)

    with pytest.raises(RuntimeError):
        asyncio.run(application(new(Recording())))


def test_an_application_that_fails_answers_500_or_closes_the_connection() -> None:
    first, *events = sent("GET", part(b"early"))
    assert isinstance(first, bytes)
    assert first.startswith(b"HTTP/1.1 500 ")
    assert events == ["close", "complete", "ended"]
    assert sent("GET", start(200, length(3))) == ["close", "ended"]


@pytest.mark.parametrize("size", [MOST_JOINED, MOST_JOINED + 1])
def test_a_large_body_follows_its_head_without_a_copy_of_it(size: int) -> None:
    body = b"x" * size
    events = sent("GET", start(200, length(size)), part(body))
    written = [event for event in events if isinstance(event, bytes)]
    assert b"".join(written).endswith(b"\r\n\r\n" + body)
    assert len(written) == (1 if size <= MOST_JOINED else 2)


@pytest.mark.parametrize("parts", [[b"ab"], [b"ab", b"c"], [b"ab", b"c", b"de"]])
def test_the_parts_of_a_body_that_arrive_before_they_are_read_are_one_message(parts: list[bytes]) -> None:
    async def read() -> list[Any]:
        cycle = new(Recording())
        assert [cycle.take(one) for one in parts] == [*itertools.accumulate(map(len, parts))]
        cycle.message_event.set()
        messages = [await cycle.receive()]
        cycle.take(b"more")
        cycle.message_event.set()
        return [*messages, await cycle.receive()]

    first, second = asyncio.run(read())
    assert (first["body"], second["body"]) == (b"".join(parts), b"more")
    assert all(isinstance(message["body"], bytes) for message in (first, second))
    if len(parts) == 1:
        assert first["body"] is parts[0]  # it is not copied


def test_a_client_that_does_not_read_is_waited_for() -> None:
    cycle = new(recording := Recording())
    cycle.flow.pause_writing()
    assert not cycle.answer(200, [length(0)], b"")
    assert recording.events == []


def test_a_client_that_leaves_stops_the_request_that_runs_and_starts_none_that_waits() -> None:
    seen: list[str] = []
    body = b"x" * (HIGH_WATER_LIMIT + 1)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        send.watch(lambda task: task.cancel())
        assert await receive() == {"type": "http.request", "body": body, "more_body": False}
        seen.append(scope["path"])
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("stopped")

    async def run() -> None:
        state = ServerState()
        protocol = Protocol(uvicorn.Config(application, interface="asgi3", lifespan="off", log_config=None), state, {})
        protocol.connection_made(recording := Recording())
        protocol.data_received(b"POST /1 HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body))
        (task,) = state.tasks
        await asyncio.sleep(0)
        protocol.data_received(body)
        protocol.data_received(b"GET /2 HTTP/1.1\r\nhost: x\r\n\r\n")
        async with asyncio.timeout(60):
            while not seen:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert recording.is_read  # otherwise nobody would hear that the client has left
        protocol.connection_lost(None)
        async with asyncio.timeout(60):
            await task
        assert seen == ["/1", "stopped"]
        assert not state.tasks

    asyncio.run(run())


def test_a_client_that_left_before_its_request_was_watched_stops_it() -> None:
    async def application(_: Any, __: Any, send: Any) -> None:
        send.disconnect()
        send.watch(lambda task: task.cancel())
        await asyncio.Event().wait()

    async def run() -> None:
        cycle = new(recording := Recording())
        cycle.task = asyncio.create_task(cycle.run_asgi(application))
        async with asyncio.timeout(60):
            await cycle.task
        assert recording.events == ["ended"]

    asyncio.run(run())


def test_a_request_that_arrives_as_the_process_stops_is_answered() -> None:
    async def application(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def run(*, late: bytes) -> list[bytes | str]:
        state = ServerState()
        protocol = Protocol(uvicorn.Config(application, interface="asgi3", lifespan="off", log_config=None), state, {})
        protocol.connection_made(recording := Recording())
        protocol.shutdown()
        assert recording.events == []
        if late:
            protocol.data_received(late)
        async with asyncio.timeout(60):
            while "close" not in recording.events:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return recording.events

    assert asyncio.run(run(late=b"")) == ["close"]
    answer, *rest = asyncio.run(run(late=b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"))
    assert isinstance(answer, bytes)
    assert answer.startswith(b"HTTP/1.1 204")
    assert rest == ["close"]
