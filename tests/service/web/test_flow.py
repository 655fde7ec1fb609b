"""Clients that take their answers slowly, or not at all."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from service.web.door import Door
from service.web.protocol import Protocol
from service.web.watch import Patience
from tests.service.web.servers import LARGE, PIECE, serving

LIMIT = 0.5
REQUEST = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n"


def client(address: tuple[str, int]) -> socket.socket:
    """A connection whose system keeps little of the answer."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    connection.settimeout(60)
    connection.connect(address)
    return connection


def taken(connection: socket.socket, count: int = 0) -> int:
    """The number of bytes until the connection ends, or an answer has come; `count` have come before."""
    while count < LARGE:
        try:
            received = connection.recv(1 << 20)
        except ConnectionResetError:
            break
        if not received:
            break
        count += len(received)
    return count


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_client_that_takes_nothing_is_cut_off_and_one_that_takes_it_slowly_is_not(loop: Any) -> None:
    lost = threading.Event()

    class Quick(Protocol):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options, door=Door(Patience(60.0, LIMIT, 60.0)))

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    with serving(Quick, loop) as address:
        with client(address) as slow:
            slow.sendall(REQUEST)
            count = 0
            for _ in range(8):
                time.sleep(LIMIT / 2)
                count += len(slow.recv(PIECE))
            assert taken(slow, count) >= LARGE
        assert lost.wait(60)
        lost.clear()
        with client(address) as silent:
            silent.sendall(REQUEST)
            assert lost.wait(60)
            assert taken(silent) < LARGE


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("head", [b"", b"connection: close\r\n"], ids=["kept", "closing"])
def test_an_answer_that_is_taken_slowly_is_not_cut_off_after_its_end(loop: Any, head: bytes) -> None:
    """The last part of an answer may wait for longer than an unused connection is kept."""

    class Brief(Protocol):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options, door=Door(Patience(LIMIT / 4, 60.0, LIMIT / 4)))

        def connection_made(self, transport: Any) -> None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
            super().connection_made(transport)

    with serving(Brief, loop) as address, client(address) as slow:
        slow.sendall(REQUEST.replace(b"\r\n\r\n", b"\r\n" + head + b"\r\n"))
        count = 0
        while count < LARGE - PIECE:
            count += len(slow.recv(LARGE - PIECE - count))
        time.sleep(4 * LIMIT)
        assert taken(slow, count) >= LARGE


def test_a_client_that_never_takes_the_end_of_an_answer_is_cut_off() -> None:
    lost = threading.Event()

    class Brief(Protocol):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options, door=Door(Patience(LIMIT, LIMIT, LIMIT)))

        def connection_made(self, transport: Any) -> None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    with serving(Brief) as address, client(address) as silent:
        silent.sendall(REQUEST)
        count = 0
        while count < LARGE - PIECE:
            count += len(silent.recv(LARGE - PIECE - count))
        assert lost.wait(60)
        assert taken(silent, count) < LARGE + 200
