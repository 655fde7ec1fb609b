"""Requests of one caller hardly wait for those of another, who sends as many large ones as it can."""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx2
import pytest

from tests.e2e.conftest import Live, Start

GREEDY, OTHER = "127.0.0.1", "127.0.0.2"
LARGE = 24
TRIANGLE = [[0, 0], [1, 0], [0, 2]]
# Registrations that take minutes, because they search for a pose and never converge.
CLOUDS = {
    name: [[i * factor % 19, i * i % modulus] for i in range(150)]
    for name, factor, modulus in (("source", 3, 23), ("target", 7, 29))
}
BODY = json.dumps({**CLOUDS, "transform": "rigid", "max_iterations": 100_000, "tolerance": 0}).encode()
# With this much time none is refused, however busy the machine is.
HEAD = (
    b"POST /em/register HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nx-timeout-seconds: 36000\r\n"
    b"%bcontent-length: %d\r\n\r\n"
)
PATIENT, FORWARDED = {"X-Timeout-Seconds": "36000"}, {"X-Forwarded-For": "192.0.2.2"}


@contextmanager
def large_ones(live: Live, header: bytes = b"") -> Iterator[list[socket.socket]]:
    """The connections of `LARGE` large registrations of the greedy caller. The service has taken all of them."""
    port = int(live.address.rpartition(":")[2])
    with ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection((GREEDY, port))) for _ in range(LARGE)]
        for connection in connections:
            connection.sendall(HEAD % (header, len(BODY)) + BODY)
        deadline = time.monotonic() + 60
        while f"latentserve_requests_in_flight {LARGE + 1}.0" not in httpx2.get(f"{live.address}/metrics").text:
            assert time.monotonic() < deadline
        yield connections


def ask_for_small_ones(client: httpx2.Client) -> None:
    """Small requests in each kind of lane, one after another."""
    for number in range(5):
        moved = {"source": TRIANGLE, "target": [[x + number, y] for x, y in TRIANGLE]}
        for body in (moved, {**moved, "transform": "rigid", "max_iterations": 5}):
            assert client.post("/em/register", json=body).is_success
        assert client.get(f"/gan/generate?seed={number}").is_success


@pytest.mark.parametrize("processes", ["1", "2"])
def test_small_requests_of_another_address_end_while_all_large_ones_are_in_progress(
    start: Start, processes: str
) -> None:
    transport = httpx2.HTTPTransport(local_address=OTHER)
    with (
        start(drain_seconds="0", shutdown_seconds="1", processes=processes) as live,
        large_ones(live) as connections,
        httpx2.Client(base_url=live.address, transport=transport, headers=PATIENT, timeout=120) as client,
    ):
        ask_for_small_ones(client)
        assert not select.select(connections, [], [], 0)[0]


def test_a_trusted_proxy_tells_callers_apart(start: Start) -> None:
    with (
        start(drain_seconds="0", shutdown_seconds="1", processes="1", trusted_proxies=GREEDY) as live,
        large_ones(live, b"x-forwarded-for: 192.0.2.1\r\n") as connections,
        httpx2.Client(base_url=live.address, headers=PATIENT | FORWARDED, timeout=120) as client,
    ):
        ask_for_small_ones(client)
        assert not select.select(connections, [], [], 0)[0]
