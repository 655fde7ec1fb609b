"""The transport of a connection: what reaches the socket, and in how many writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from service.web.heads import completed
from service.web.transport import JoiningTransport

GIVEN, BODY, REST = b"HTTP/1.1 200 OK\r\n\r\n", b"first", b"rest"
HEAD = completed(GIVEN)


class Recording(asyncio.Transport):
    """A transport that records what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.events.append(bytes(data))

    def close(self) -> None:
        self.events.append("close")

    def write_eof(self) -> None:
        self.events.append("eof")


@pytest.fixture
def recording() -> Recording:
    return Recording()


@pytest.fixture
def joining(recording: Recording) -> JoiningTransport:
    begins: Iterator[bool] = iter([True])
    return JoiningTransport(recording, lambda: next(begins, False))


def test_a_head_and_the_first_part_of_its_body_are_one_write(joining: JoiningTransport, recording: Recording) -> None:
    joining.write(GIVEN)
    assert recording.events == []
    joining.write(memoryview(BODY))
    joining.write(REST)
    assert recording.events == [HEAD + BODY, REST]


@pytest.mark.parametrize(("end", "event"), [("flush", []), ("close", ["close"]), ("write_eof", ["eof"])])
def test_a_head_without_a_body_is_written_at_the_end(
    joining: JoiningTransport, recording: Recording, end: str, event: list[str]
) -> None:
    joining.write(GIVEN)
    getattr(joining, end)()
    assert recording.events == [HEAD, *event]
    joining.write(REST)
    assert recording.events == [HEAD, *event, REST]


def test_what_is_no_head_is_written_at_once(recording: Recording) -> None:
    joining = JoiningTransport(recording, lambda: False)
    joining.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    joining.close()
    assert recording.events == [b"HTTP/1.1 100 Continue\r\n\r\n", "close"]
