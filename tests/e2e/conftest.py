"""The service as a process of its own, with the published checkpoint."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

ROOT = Path(__file__).resolve().parents[2]


class Live(NamedTuple):
    """A running service."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path


Start = Callable[..., AbstractContextManager[Live]]


def children(pid: int) -> list[int]:
    """The ids of the processes that `pid` has started and that have not ended."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(folder.name))
    return sorted(found)


@contextmanager
def halted(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Stop the service's processes during the block. They then find everything that it sent, however long that took."""
    pids = [process.pid, *children(process.pid)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def busy_connection(port: int) -> socket.socket:
    """A connection whose request is in progress, because its body does not come; or one that was refused."""
    connection = socket.create_connection(("127.0.0.1", port), 60)
    with suppress(OSError):  # it was refused at once
        connection.sendall(
            b"POST /vae/kl HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
            b"expect: 100-continue\r\n\r\n"
        )
        connection.recv(1000)
    return connection


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    command: list[str], environment: Mapping[str, str], port: int, log: Path
) -> Iterator[subprocess.Popen[Any]]:
    """A service that is ready on `port`, until the end of the block.

    Its log goes to the file `log`, because a pipe without a reader would fill up and block the service.
    """
    with log.open("wb") as stderr, subprocess.Popen(command, cwd=ROOT, env=environment, stderr=stderr) as process:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_until_ready(address: str, process: subprocess.Popen[Any], seconds: float = 240) -> None:
    """Wait until the service is ready. The first start on a machine compiles, which may take minutes."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(httpx2.TransportError):
            if httpx2.get(f"{address}/readyz").is_success:
                return
        assert process.poll() is None, "the process ended"
        assert time.monotonic() < deadline, "not ready in time"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def start() -> Start:
    """A context manager that starts a service with the given LATENTSERVE_ settings, and stops it."""

    @contextmanager
    def run(**settings: str) -> Iterator[Live]:
        port = free_port()
        environment = os.environ | {f"LATENTSERVE_{name.upper()}": value for name, value in settings.items()}
        command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            with running(command, environment, port, log) as process:
                yield Live(f"http://127.0.0.1:{port}", process, log)

    return run


@pytest.fixture(scope="session")
def live(start: Start) -> Iterator[Live]:
    """One service, shared by all tests that leave it intact."""
    with start(drain_seconds="0") as live:
        yield live
