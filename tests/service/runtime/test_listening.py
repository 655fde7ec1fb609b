"""Listening sockets."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import ExitStack
from typing import Any

import pytest

from service.runtime.board import Board
from service.runtime.listening import CannotListen, accept, listen
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


def test_a_process_that_stops_takes_the_connections_that_wait() -> None:
    adopted: list[socket.socket] = []

    async def stop() -> None:
        source = Listeners([listener], Board(1, [], []).seat(0), 10, b"refused")
        source.open(adopted.append)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        source.close()
        for one in (*clients, *adopted):
            one.close()

    (listener,) = listen("127.0.0.1", 0)
    asyncio.run(stop())
    assert len(adopted) == 3
