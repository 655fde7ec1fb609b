"""The reception: which replica gets a connection."""

from __future__ import annotations

import selectors
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from service.runtime.board import Board
from service.runtime.channel import Pair, open_channel, receive_connections
from service.runtime.listening import CannotListen, listen
from service.runtime.reception import Reception
from service.runtime.replica import Replica

MAX_CONNECTIONS = 100


class House:
    """A reception with two replicas, which are not processes, and the connections that they got."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack
        self.board = Board(2, [], [])
        self.replicas = [Replica(number, self.board) for number in range(2)]
        self.ends: list[Pair] = []
        for replica in self.replicas:
            replica.channel, theirs = open_channel()
            self.ends.append(theirs)
            self.board.seat(replica.number).join()
            stack.callback(replica.channel.close)
            stack.callback(theirs.close)
        (self.listener,) = listen("127.0.0.1", 0)
        self.selector = stack.enter_context(selectors.DefaultSelector())
        self.reception = Reception(
            [self.listener], self.replicas, self.board, MAX_CONNECTIONS, b"refused", self.selector
        )
        stack.callback(self.reception.close_copies)
        self.held: list[list[socket.socket]] = [[], []]
        self.reception.update()

    def connect(self, count: int) -> list[socket.socket]:
        """New connections, after the replicas have taken theirs."""
        clients = [socket.create_connection(self.listener.getsockname()) for _ in range(count)]
        for client in clients:
            self.stack.enter_context(client)
        while ready := self.selector.select(0):
            for key, events in ready:
                key.data(events)
        for held, end in zip(self.held, self.ends, strict=True):
            for connection in receive_connections(end.connections):
                held.append(self.stack.enter_context(connection))
        return clients

    def close(self, replica: int, count: int) -> None:
        for _ in range(count):
            self.held[replica].pop().close()
            self.board.seat(replica).close_connection()

    def sizes(self) -> list[int]:
        return [len(held) for held in self.held]


@pytest.fixture
def house() -> Iterator[House]:
    with ExitStack() as stack:
        yield House(stack)


@pytest.mark.parametrize("count", [4, 64])
def test_connections_are_shared_equally(house: House, count: int) -> None:
    house.connect(count)
    assert house.sizes() == [count // 2, count // 2]


def test_new_connections_go_where_fewer_are_open(house: House) -> None:
    house.connect(10)
    house.close(1, 4)
    house.connect(4)
    assert house.sizes() == [5, 5]


def test_connections_one_after_another_take_turns(house: House) -> None:
    got: Counter[int] = Counter()
    for _ in range(6):
        house.connect(1)
        (replica,) = [number for number, held in enumerate(house.held) if held]
        got[replica] += 1
        house.close(replica, 1)
    assert got == {0: 3, 1: 3}


def test_a_replica_that_is_stuck_gets_no_connection_while_another_works(house: House) -> None:
    house.board.seat(0).beat(stuck=True)
    house.connect(6)
    assert house.sizes() == [0, 6]
    house.board.seat(1).beat(stuck=True)
    house.connect(6)
    assert house.sizes() == [6, 6]


def test_connections_wait_until_a_replica_takes_them(house: House) -> None:
    for number in range(2):
        house.board.reset(number)
    house.reception.update()
    house.connect(3)
    assert house.sizes() == [0, 0]
    house.board.seat(1).join()
    house.reception.update()
    house.connect(0)
    assert house.sizes() == [0, 3]


def test_beyond_the_limit_a_connection_is_refused_until_another_closes(house: House) -> None:
    house.connect(MAX_CONNECTIONS)
    (refused,) = house.connect(1)
    refused.settimeout(20)
    assert refused.recv(100) == b"refused"
    assert refused.recv(100) == b""
    house.close(0, 1)
    house.connect(1)
    assert sum(house.sizes()) == MAX_CONNECTIONS


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
