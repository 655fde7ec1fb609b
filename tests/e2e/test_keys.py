"""API keys in a service of two processes, and at the start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from service.web import keys
from tests.e2e.conftest import ROOT, Live, Start, children

SECRETS = {name: keys.new_secret() for name in ("alice", "slow", "later")}


class Guarded(NamedTuple):
    """A running service, and its file of keys."""

    live: Live
    file: Path


def line(name: str, *options: str) -> str:
    return keys.line_of(SECRETS[name], name, options) + "\n"


def statuses(live: Live, name: str, count: int, connections: int = 4) -> list[int]:
    """Of requests on several connections. New ones take turns, so they are in both processes."""
    found = []
    with ExitStack() as stack:
        clients = [stack.enter_context(httpx2.Client(base_url=live.address, timeout=60)) for _ in range(connections)]
        for number in range(count):
            answer = clients[number % connections].get("/v2", headers={"Authorization": f"Bearer {SECRETS[name]}"})
            found.append(answer.status_code)
    return found


@pytest.fixture(scope="module")
def guarded(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(line("alice") + line("slow", "rate=0.0001", "burst=25"))
    with start(drain_seconds="0", processes="2", api_keys_file=str(file)) as live:
        yield Guarded(live, file)


def test_a_rate_holds_over_all_processes(guarded: Guarded) -> None:
    assert len(children(guarded.live.process.pid)) == 2
    assert sorted(statuses(guarded.live, "slow", 60)) == [200] * 25 + [429] * 35
    assert statuses(guarded.live, "alice", 60) == [200] * 60


def test_every_process_reads_a_changed_file(guarded: Guarded) -> None:
    assert set(statuses(guarded.live, "later", 8)) == {401}
    new = guarded.file.with_name("new")
    new.write_text(guarded.file.read_text() + line("later"))
    new.replace(guarded.file)
    deadline = time.monotonic() + 60
    while set(statuses(guarded.live, "later", 8)) != {200}:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # The limits of a key outlive the reading.
    assert set(statuses(guarded.live, "slow", 8)) == {429}


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v2 HTTP/1.1\r\nhost: x\r\nAuthorization %b\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nhost: x\r\n%b: Bearer\r\n x\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nhost: x\r\nhost: y\r\nAuthorization: Bearer %b\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nhost: x\r\nAuthorization: Bearer %b\x00\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nhost: x\r\nAuthorization: Bearer %b\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nhost: x\r\nAuthorization: Bearer %b\r\ncontent-length: z\r\n\r\n",
        b"Authorization: Bearer %b\r\n\r\n",
    ],
)
def test_no_answer_and_no_log_has_the_key_of_a_request_that_is_not_valid(guarded: Guarded, head: bytes) -> None:
    secret = SECRETS["alice"].encode()
    port = int(guarded.live.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head.replace(b"%b", secret))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    assert secret not in answer
    deadline = time.monotonic() + 60
    while b"malformed request" not in guarded.live.log.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert secret not in guarded.live.log.read_bytes()


def test_the_service_does_not_start_with_a_bad_file_and_says_which_line(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\n" + line("alice") + "bob rate=5\n")
    for command in ("check", "serve"):
        ended = subprocess.run(
            [sys.executable, "-m", "service", command],
            cwd=ROOT, env=os.environ | {"LATENTSERVE_API_KEYS_FILE": str(file), "LATENTSERVE_PORT": "0"},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ended.returncode == 2
        assert f"latentserve does not start: LATENTSERVE_API_KEYS_FILE: {file}, line 3: " in ended.stderr
        assert "new-key" in ended.stderr
        assert "Traceback" not in ended.stderr
