"""The reception: which replica gets a connection."""

from __future__ import annotations

import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from service.runtime.board import Board
from service.runtime.channel import Pair, open_channel, receive_connections
from service.runtime.listening import listen, most
from service.runtime.losses import MOST_SECONDS, SETTLE_SECONDS
from service.runtime.reception import Reception
from service.runtime.replica import Replica

MAX_CONNECTIONS = 100
RESERVED = most(MAX_CONNECTIONS) - MAX_CONNECTIONS


class House:
    """A reception with two replicas, which are not processes, and the connections that they got."""

    def __init__(self, stack: ExitStack, max_connections: int = MAX_CONNECTIONS) -> None:
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
            [self.listener], self.replicas, self.board, max_connections, b"refused", self.selector, self.after
        )
        self.due: list[Callable[[], None]] = []
        stack.callback(self.reception.close_copies)
        self.reserved = 0
        self.held: list[list[socket.socket]] = [[], []]
        self.reception.update()

    def connect(self, count: int) -> list[socket.socket]:
        """New connections, after the replicas have taken theirs."""
        clients = [socket.create_connection(self.listener.getsockname()) for _ in range(count)]
        for client in clients:
            self.stack.enter_context(client)
        self.accept()
        self.take()
        return clients

    def accept(self) -> None:
        """Let the reception do all that it can at once."""
        while ready := self.selector.select(0):
            for key, events in ready:
                key.data(events)

    def take(self) -> None:
        """Let the replicas take their connections."""
        for held, end in zip(self.held, self.ends, strict=True):
            for connection, is_reserved in receive_connections(end.connections):
                assert connection is not None
                held.append(self.stack.enter_context(connection))
                self.reserved += is_reserved

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        self.due.append(call)

    def later(self) -> None:
        """Let time pass."""
        due, self.due = self.due, []
        for call in due:
            call()

    def close(self, replica: int, count: int) -> None:
        for _ in range(count):
            self.held[replica].pop().close()
            self.board.seat(replica).close_connection()

    def settle(self) -> None:
        """Wait until all losses count."""
        time.sleep(2 * SETTLE_SECONDS)

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
    house.settle()
    house.connect(4)
    assert house.sizes() == [5, 5]


@pytest.mark.parametrize("count", [4, 16, 64])
def test_connections_are_shared_equally_after_many_have_closed_at_once(house: House, count: int) -> None:
    """Also while one replica has reported the losses and the other has not, or not all of them."""
    for late in (32, 20, 0):
        house.connect(64)
        house.close(0, 32)
        house.close(1, 32 - late)
        house.connect(count)
        house.close(1, late)
        assert house.sizes() == [count // 2, count // 2]
        for number in range(2):
            house.close(number, count // 2)


def test_long_connections_count_although_others_close_all_the_time(house: House) -> None:
    house.connect(20)
    house.close(1, 10)  # from now on replica 0 has 10 connections more than the other
    until = time.monotonic() + 2.5 * MOST_SECONDS
    while time.monotonic() < until:
        house.connect(2)
        for number in range(2):
            house.close(number, 1 if house.held[number] else 0)
        time.sleep(SETTLE_SECONDS / 10)
    house.connect(4)
    assert len(house.held[1]) > 4


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


def test_connections_wait_while_the_queues_of_all_replicas_are_full() -> None:
    # The system queues a few hundred connections for a process that does not take them.
    count = 1000
    with ExitStack() as stack:
        house = House(stack, count)
        clients = [stack.enter_context(socket.create_connection(house.listener.getsockname())) for _ in range(count)]
        while sum(house.sizes()) < count:
            house.accept()
            house.take()
            house.later()
        for client in clients:
            client.setblocking(False)
            with pytest.raises(BlockingIOError):  # neither closed nor refused
                client.recv(1)


def test_a_replica_that_ends_gets_no_connection(house: House) -> None:
    house.replicas[0].is_ending = True
    house.connect(4)
    assert house.sizes() == [0, 4]
    house.replicas[1].is_ending = True
    house.reception.update()
    house.connect(4)
    assert house.sizes() == [0, 4]


def test_at_the_end_connections_that_no_replica_takes_are_refused(house: House) -> None:
    for replica in house.replicas:
        replica.is_ending = True
    house.reception.update()
    clients = house.connect(3)
    house.reception.close()
    for client in clients:
        client.settimeout(20)
        assert client.recv(100) == b"refused"


def test_beyond_the_limit_connections_are_reserved_and_then_refused_until_another_closes(house: House) -> None:
    house.connect(MAX_CONNECTIONS)
    assert house.reserved == 0
    house.connect(RESERVED)
    assert house.reserved == RESERVED
    (refused,) = house.connect(1)
    refused.settimeout(20)
    assert refused.recv(100) == b"refused"
    assert refused.recv(100) == b""
    house.close(0, 1)
    house.connect(1)
    assert sum(house.sizes()) == MAX_CONNECTIONS + RESERVED
    house.close(0, RESERVED + 1)
    before = house.reserved
    house.connect(1)
    assert house.reserved == before
