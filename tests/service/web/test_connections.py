"""The limit of connections: which connection is closed for a new one."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from service.runtime.board import Board
from service.runtime.listening import reserved
from service.web.connections import MOST_SELECTED, Connections
from service.web.protocol import HEAD_SECONDS, PAUSE_SECONDS, UNUSED_SECONDS, Protocol
from service.web.transport import has_unread, has_unsent
from tests.service.web.servers import Address, release, serving

LIMIT = 40
SHARE = reserved(LIMIT) // 2  # of one of two replicas


class One:
    """A connection that has been unused since a moment; infinity if it is in use."""

    def __init__(self, since: float, *, is_reserved: bool = False) -> None:
        self.since = since
        self.is_reserved = is_reserved
        self.is_closed = False
        self.has_unread = False

    def may_close_at(self) -> float:
        return math.inf if self.is_closed else self.since

    def evict(self) -> bool:
        self.is_closed = not self.has_unread
        return self.is_closed


@pytest.fixture
def connections() -> Connections:
    return Connections(Board(2, [], []).seat(0), LIMIT)


def filled(connections: Connections, *ones: One) -> list[bool]:
    for one in ones:
        connections.add(one)
    return [one.is_closed for one in ones]


def test_the_connection_that_is_unused_for_longest_makes_room(connections: Connections) -> None:
    many = [One(since) for since in (5.0, 3.0, math.inf, 4.0)]
    filled(connections, *many)
    order = []
    while connections.make_room():
        order += [one.since for one in many if one.is_closed and one.since not in order]
    assert order == [3.0, 4.0, 5.0]


def test_a_connection_that_has_just_been_used_is_left_alone(connections: Connections) -> None:
    filled(connections, One(time.monotonic() + 60), One(math.inf))
    assert not connections.make_room()


def test_a_connection_that_is_used_after_it_was_selected_is_left_alone(connections: Connections) -> None:
    first, second, third = One(1.0), One(2.0), One(3.0)
    filled(connections, first, second, third)
    assert connections.make_room()
    second.since = math.inf
    assert connections.make_room()
    assert [first.is_closed, second.is_closed, third.is_closed] == [True, False, True]


def test_a_connection_whose_client_has_just_sent_something_is_left_alone(connections: Connections) -> None:
    ones = [One(1.0), One(2.0)]
    reserved_ones = [One(1.0, is_reserved=True) for _ in range(SHARE + 1)]
    ones[0].has_unread = reserved_ones[0].has_unread = True
    filled(connections, *ones)
    assert connections.make_room()
    assert [one.is_closed for one in ones] == [False, True]
    assert not connections.make_room()
    filled(connections, *reserved_ones)
    assert [one.is_closed for one in reserved_ones] == [False, True, *[False] * (SHARE - 1)]


def test_more_connections_than_one_look_selects_make_room(connections: Connections) -> None:
    many = [One(float(number)) for number in range(2 * MOST_SELECTED)]
    filled(connections, *many)
    for number in range(MOST_SELECTED + 1):
        assert connections.make_room()
        assert [one.is_closed for one in many].index(False) == number + 1


def test_a_reserved_connection_takes_the_place_of_an_unused_reserved_one(connections: Connections) -> None:
    """Otherwise a few silent clients would keep all probes away."""
    used = One(math.inf, is_reserved=True)
    unused = [One(1.0, is_reserved=True) for _ in range(SHARE + 2)]
    ordinary = One(1.0)
    assert not any(filled(connections, ordinary, used, *unused[: SHARE - 1]))
    assert filled(connections, unused[-1]) == [False]
    assert [one.is_closed for one in (used, ordinary, *unused)] == [False, False, True, *[False] * (SHARE + 1)]
    assert connections.make_room()
    assert ordinary.is_closed


def test_reserved_connections_that_have_closed_count_no_more(connections: Connections) -> None:
    for _ in range(3 * SHARE):
        one = One(1.0, is_reserved=True)
        assert filled(connections, one) == [False]
        connections.discard(one)
    assert not connections


def test_what_has_not_been_read_is_known() -> None:
    class Transport(asyncio.BaseTransport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return ours

    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not has_unread(Transport())
        theirs.sendall(b"G")
        assert has_unread(Transport())
        assert ours.recv(1) == b"G"
        assert not has_unread(Transport())
    assert not has_unread(Transport())  # closed


def test_what_the_client_has_not_taken_is_known() -> None:
    class Transport(asyncio.BaseTransport):
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return ours

    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        theirs.connect(server.getsockname())
        ours, _ = server.accept()
        with ours:
            assert not has_unsent(Transport())
            ours.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    ours.send(bytes(1 << 16))
            assert has_unsent(Transport())
    assert not has_unsent(Transport())  # closed


class Known(Protocol):
    """A protocol whose connections are known to the tests."""

    all: list[Protocol] = []  # noqa: RUF012 (the tests clear it)

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.all.append(self)


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with serving(Known) as found:
        yield found


HEAD = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n"
HELD = b"GET /held HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [
        (b"", UNUSED_SECONDS),
        (b"POST / HTTP/1.1\r\nho", HEAD_SECONDS),
        (HEAD, math.inf),
        (HEAD + b"{", math.inf),
        (HEAD + b"{}", PAUSE_SECONDS),
        (HEAD + b"{}" + HEAD[:20], PAUSE_SECONDS),
        (HELD, math.inf),
        (HELD + HEAD[:20], math.inf),
    ],
    ids=[
        "silent", "half a head", "no body", "half a body", "answered", "answered, and half a head", "running",
        "running, and half a head",
    ],
)  # fmt: skip
def test_a_connection_may_close_while_its_client_owes_a_head(address: Address, sent: bytes, seconds: float) -> None:
    Known.all.clear()
    release.clear()
    try:
        with socket.create_connection(address, timeout=60) as client:
            client.sendall(sent)
            expected: Callable[[Protocol], bool] = lambda one: one.may_close_at() == one._watch.since + seconds  # noqa: E731
            deadline = time.monotonic() + 60
            while not (Known.all and expected(Known.all[-1])):
                assert time.monotonic() < deadline
                time.sleep(0.01)
    finally:
        release.set()
