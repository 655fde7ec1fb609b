"""Slow clients: each phase of a request has its limit, and only the client's time counts."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from service.web.door import Door
from service.web.protocol import Protocol
from service.web.watch import LEAST_BODY_BYTES, Patience, Phase, Watch
from tests.service.web.servers import Address, exchange, problem_of, rejections, release, serving

LIMIT = 0.5
HEAD = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 100000\r\n\r\n"


class Quick(Protocol):
    """A protocol whose patience ends soon."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, door=Door(Patience(LIMIT, LIMIT, LIMIT)))


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with serving(Quick) as found:
        yield found


def dribble(address: Address, first: bytes, again: bytes) -> bytes:
    """The answer to a client that sends a byte or more at a time, without an end."""
    answer = b""
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(first)
        connection.settimeout(0.02)
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline
            with suppress(TimeoutError):
                received = connection.recv(65536)
                answer += received
                if not received:
                    return answer
            with suppress(OSError):  # the service has closed its end
                connection.sendall(again)


def test_a_connection_without_a_request_is_closed(address: Address) -> None:
    assert exchange(address, b"") == b""
    assert exchange(address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").startswith(b"HTTP/1.1 200")  # and then idle


@pytest.mark.parametrize("again", [b"", b"x"], ids=["silent", "a byte at a time"])
def test_a_head_that_does_not_end_is_a_408(address: Address, again: bytes) -> None:
    assert problem_of(dribble(address, b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ", again))["status"] == 408


@pytest.mark.parametrize("again", [b"", b"x"], ids=["silent", "a byte at a time"])
def test_a_body_without_progress_is_a_408(address: Address, again: bytes) -> None:
    rejections.clear()
    problem = problem_of(dribble(address, HEAD, again))
    assert problem["status"] == 408
    assert "body" in problem["detail"]
    deadline = time.monotonic() + 60  # the application hears of it a moment after the client
    while not rejections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert rejections == [408]


class Clock:
    """An event loop whose time passes by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Any] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> Any:
        timer: Any = SimpleNamespace(when=self.now + delay, call=call, cancel=lambda: self.timers.remove(timer))
        self.timers.append(timer)
        return timer

    def run(self, seconds: float) -> None:
        """Let the time pass."""
        until = self.now + seconds
        while due := [timer for timer in self.timers if timer.when <= until]:
            timer = min(due, key=lambda timer: timer.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when)
            timer.call()
        self.now = until


def test_a_body_may_take_long_but_must_progress() -> None:
    clock, expired = Clock(), []
    watch = Watch(Patience(1, 10, 100), clock, lambda phase: expired.append((phase, clock.now)), lambda: False)  # type: ignore[arg-type]
    watch.enter(Phase.BODY)
    watch.check()
    for _ in range(10):
        clock.run(9)
        watch.received(LEAST_BODY_BYTES)
    assert not expired
    for _ in range(5):
        clock.run(4)
        watch.received(LEAST_BODY_BYTES // 8)
    assert expired == [(Phase.BODY, 100)]


def test_a_connection_has_one_timer_and_a_shorter_limit_is_kept() -> None:
    clock, expired = Clock(), []
    watch = Watch(Patience(1, 10, 100), clock, lambda phase: expired.append((phase, clock.now)), lambda: False)  # type: ignore[arg-type]
    for _ in range(5):  # whole requests
        watch.enter(Phase.IDLE)
        clock.run(10)
    assert len(clock.timers) == 1
    watch.enter(Phase.HEAD)
    watch.check()
    clock.run(5)
    assert expired == [(Phase.HEAD, 51)]
    assert not clock.timers


def test_a_client_is_not_slow_while_the_service_does_not_read(address: Address) -> None:
    release.clear()
    with socket.create_connection(address, timeout=60) as connection:
        # More than the service reads ahead, for an application that does not read yet.
        connection.sendall(b"POST /held HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1000000\r\n\r\n")
        connection.sendall(bytes(200_000))
        time.sleep(2 * LIMIT)
        release.set()
        connection.sendall(bytes(800_000))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_an_answer_that_takes_long_is_sent(address: Address) -> None:
    release.clear()
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(b"GET /held HTTP/1.1\r\nhost: x\r\n\r\n")
        time.sleep(2 * LIMIT)
        release.set()
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_late_second_request_does_not_lose_the_answer_to_the_first(address: Address) -> None:
    release.clear()
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(b"GET /held HTTP/1.1\r\nhost: x\r\n\r\nGET /never-compl")
        time.sleep(2 * LIMIT)
        release.set()
        answer = connection.makefile("rb").read()
        assert answer.count(b"HTTP/1.1") == 1
        assert answer.startswith(b"HTTP/1.1 200")
