"""Listening sockets."""

from __future__ import annotations

import asyncio
import errno
import math
import socket
import sys
from contextlib import ExitStack
from typing import Any

import pytest

from service.runtime.board import Board
from service.runtime.listening import KEEP_ALIVE, CannotListen, accept, connections_within, listen, most
from service.runtime.sources import Listeners


class Failing:
    """A listening socket whose first connections were lost before they were accepted."""

    def __init__(self, listener: socket.socket, numbers: list[int]) -> None:
        self.listener = listener
        self.numbers = numbers

    def accept(self) -> Any:
        if self.numbers:
            raise OSError(self.numbers.pop(), "lost")
        return self.listener.accept()


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EHOSTUNREACH, errno.EPERM])
def test_a_connection_that_is_lost_while_it_waits_does_not_stop_the_others(number: int) -> None:
    (listener,) = listen("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()) as client:
        (accepted,) = accept(Failing(listener, [number, number]))  # type: ignore[arg-type]
        with accepted:
            assert accepted.getpeername() == client.getsockname()


def test_without_free_descriptors_a_connection_waits() -> None:
    (listener,) = listen("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()):
        assert list(accept(Failing(listener, [errno.EMFILE]))) == []  # type: ignore[arg-type]
        (accepted,) = accept(listener)
        accepted.close()


def test_a_second_server_on_the_port_is_refused_at_once() -> None:
    (first,) = listen("127.0.0.1", 0)
    with first, pytest.raises(CannotListen, match="address already in use"):
        listen("127.0.0.1", first.getsockname()[1])


def test_a_name_with_several_addresses_has_one_port() -> None:
    listeners = listen("localhost", 0)
    with ExitStack() as stack:
        for listener in listeners:
            stack.enter_context(listener)
        assert len({listener.getsockname()[1] for listener in listeners}) == 1


def test_of_a_name_with_an_address_that_this_machine_lacks_the_others_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(*hosts: str) -> Any:
        return lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, 0)) for host in hosts]

    absent = "192.0.2.1"  # reserved for documents (RFC 5737)
    monkeypatch.setattr(socket, "getaddrinfo", found(absent, "127.0.0.1"))
    (listener,) = listen("name", 0)
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    monkeypatch.setattr(socket, "getaddrinfo", found(absent))
    with pytest.raises(CannotListen, match=absent):
        listen("name", 0)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems name these options otherwise")
def test_connections_of_clients_that_vanish_are_lost_in_the_end() -> None:
    (listener,) = listen("127.0.0.1", 0)
    with listener, socket.create_connection(listener.getsockname()):
        (accepted,) = accept(listener)
        with accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            for name, value in KEEP_ALIVE.items():
                assert accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value


@pytest.mark.parametrize(("limit", "connections"), [(math.inf, 1000), (1100, 1000), (1099, 999), (150, 75), (1, 1)])
def test_open_files_limit_the_connections(limit: float, connections: int) -> None:
    assert connections_within(limit, 1000, 100) == connections


def test_a_process_alone_reserves_connections_beyond_the_limit_and_then_refuses() -> None:
    adopted: list[tuple[socket.socket, bool]] = []

    async def serve() -> bytes:
        source = Listeners([listener], Board(1, [], []).seat(0), 10, b"refused")
        source.open(lambda connection, is_reserved: adopted.append((connection, is_reserved)))
        with ExitStack() as stack:
            clients = [
                stack.enter_context(socket.create_connection(listener.getsockname(), 20)) for _ in range(most(10) + 1)
            ]
            source.close()
            for one, _ in adopted:
                one.close()
            return clients[-1].recv(100)

    (listener,) = listen("127.0.0.1", 0)
    assert asyncio.run(serve()) == b"refused"
    assert [is_reserved for _, is_reserved in adopted] == [False] * 10 + [True] * (most(10) - 10)


def test_a_process_that_stops_takes_the_connections_that_wait() -> None:
    adopted: list[socket.socket] = []

    async def stop() -> None:
        source = Listeners([listener], Board(1, [], []).seat(0), 10, b"refused")
        source.open(lambda connection, _: adopted.append(connection))
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        source.close()
        for one in (*clients, *adopted):
            one.close()

    (listener,) = listen("127.0.0.1", 0)
    asyncio.run(stop())
    assert len(adopted) == 3
