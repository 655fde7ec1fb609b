"""At its limits the service still answers probes, and clients that leave cost nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx2

from tests.e2e.conftest import ROOT, Live, Start, busy_connection, free_port, wait_until_ready

FILES = 256


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def port_of(live: Live) -> int:
    return int(live.address.rpartition(":")[2])


def in_flight(live: Live) -> float:
    text = httpx2.get(f"{live.address}/metrics", timeout=60).text
    return sum(
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("latentserve_requests_in_flight ")
    )


@contextmanager
def with_few_files(log: Path) -> Iterator[Live]:
    """A service that may open `FILES` files."""
    port = free_port()
    command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
    environment = os.environ | {f"LATENTSERVE_{name}": "60" for name in ("BODY_IDLE_SECONDS", "KEEPALIVE_SECONDS")}
    environment |= {"LATENTSERVE_DRAIN_SECONDS": "0", "LATENTSERVE_PROCESSES": "1"}
    limited = ["sh", "-c", f'ulimit -n {FILES} && exec "$@"', "sh", *command]
    with log.open("wb") as stderr, subprocess.Popen(limited, cwd=ROOT, env=environment, stderr=stderr) as process:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process)
            yield Live(f"http://127.0.0.1:{port}", process, log)
        finally:
            process.terminate()


def test_at_the_limit_of_open_files_probes_are_answered(tmp_path: Path) -> None:
    with with_few_files(tmp_path / "log") as live, ExitStack() as stack:
        for _ in range(FILES):  # more than the service takes: the last ones are refused
            stack.enter_context(busy_connection(port_of(live)))
        answer = httpx2.get(f"{live.address}/vae/encoder-size?dimension=2", timeout=60)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        until(lambda: httpx2.get(f"{live.address}/livez", timeout=60).is_success)
        until(lambda: "fewer connections" in live.log.read_text())


def test_silent_connections_at_the_limit_make_room_for_others(start: Start) -> None:
    settings = {"connections": "16", "processes": "2", "header_seconds": "600", "keepalive_seconds": "600"}
    with start(**settings, drain_seconds="0") as live, ExitStack() as stack:
        for first in (b"", b"G"):
            for _ in range(32):
                silent = stack.enter_context(socket.create_connection(("127.0.0.1", port_of(live))))
                with suppress(OSError):
                    silent.sendall(first)
            for _ in range(4):
                # Connections that were opened a moment ago are left alone.
                until(lambda: httpx2.get(f"{live.address}/vae/encoder-size?dimension=2", timeout=60).is_success)
        until(lambda: "connections closed" in live.log.read_text())


def test_clients_that_leave_cost_nothing(live: Live) -> None:
    """Hundreds of clients hang up in the middle of work that would take minutes."""
    clouds = [[[i * a % 19, i * i % b] for i in range(150)] for a, b in ((3, 23), (7, 29))]
    options = {"transform": "rigid", "max_iterations": 100_000, "tolerance": 0}
    body = json.dumps({**options, "source": clouds[0], "target": clouds[1]}).encode()
    # With this much time a busy machine refuses none of them.
    head = b"POST /em/register HTTP/1.1\r\nhost: x\r\nx-timeout-seconds: 36000\r\ncontent-type: application/json\r\n"
    head += b"content-length: %d\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", port_of(live)))).sendall(head % len(body) + body)
        until(lambda: in_flight(live) > 100)
    until(lambda: in_flight(live) == 1)  # the question itself
