"""Start, drain and stop of the process, its log, and its handling of connections."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.version import VERSION
from tests.e2e.conftest import ROOT, Live, Start, children, halted

SERVE = [sys.executable, "-m", "service"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m service` with only the given variables, until it exits."""
    return subprocess.run(
        [*SERVE, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "checkpoints", tmp_path / "checkpoints"))


def test_check_reports_whether_the_service_would_start() -> None:
    assert run("check").returncode == 0


def test_openapi_prints_the_document() -> None:
    assert "/em/register" in json.loads(run("openapi").stdout)["paths"]


@pytest.mark.parametrize("name", ["generator.safetensors", "discriminator.safetensors", "manifest.json"])
def test_without_its_checkpoint_the_service_refuses_to_start_and_names_the_file(copied: Path, name: str) -> None:
    (copied / name).unlink()
    ended = run("serve", LATENTSERVE_CHECKPOINTS=str(copied))
    assert ended.returncode == 2
    assert name in ended.stderr
    assert "Traceback" not in ended.stderr


def test_on_a_tampered_checkpoint_the_service_refuses_to_start_and_names_both_digests(copied: Path) -> None:
    path = copied / "generator.safetensors"
    expected = json.loads((copied / "manifest.json").read_text())["files"][path.name]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    ended = run("serve", LATENTSERVE_CHECKPOINTS=str(copied))
    assert ended.returncode == 2
    assert path.name in ended.stderr
    assert expected in ended.stderr


def test_an_invalid_setting_gives_one_line_that_names_it() -> None:
    ended = run("serve", LATENTSERVE_QUEUE_ITEMS="many")
    assert ended.returncode == 2
    assert "LATENTSERVE_QUEUE_ITEMS" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_service_links_of_kubernetes_are_logged_and_the_service_would_start() -> None:
    ended = run("check", LATENTSERVE_PORT="tcp://10.0.0.7:8000", LATENTSERVE_SERVICE_HOST="10.0.0.7")
    assert (ended.returncode, ended.stdout) == (0, "ok\n")
    (line,) = [json.loads(line) for line in ended.stderr.splitlines()]
    assert line["variables"] == ["LATENTSERVE_PORT", "LATENTSERVE_SERVICE_HOST"]


def test_a_port_in_use_ends_the_process_with_its_reason() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = run("serve", "--port", str(taken.getsockname()[1]))
    assert ended.returncode != 0
    assert "address already in use" in ended.stderr


def metrics(live: Live) -> str:
    return httpx2.get(f"{live.address}/metrics").text


def running_batches(live: Live) -> float:
    """Number of running batches, over all engines."""
    text = metrics(live)
    counts = [
        sum(float(value) for value in re.findall(rf"^latentserve_batch_{name}_count{{.*?}} (\S+)$", text, re.MULTILINE))
        for name in ("size", "seconds")
    ]
    return counts[0] - counts[1]


def processor_seconds(live: Live) -> float:
    """Processor time of the service so far. Unlike the time of day, the load of the machine hardly changes it."""
    ticks = 0
    for pid in (live.process.pid, *children(live.process.pid)):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def heavy(count: int, iterations: int) -> dict[str, Any]:
    """A registration in 3-D, in the lane for large ones, that performs all its iterations."""
    cloud = [[float(i % 97), float(i % 89), float(i % 83)] for i in range(count)]
    rules = {"init": "identity", "sigma": 5.0, "tolerance": 0, "max_iterations": iterations}
    return {"source": cloud, "target": cloud, **rules}


def slow_request(live: Live, answers: list[Any]) -> threading.Thread:
    """Start a registration of a few seconds, and wait until it runs."""
    body = heavy(1500, 60)
    answered = threading.Thread(
        target=lambda: answers.append(httpx2.post(f"{live.address}/em/register", json=body, timeout=60))
    )
    before = running_batches(live)
    answered.start()
    deadline = time.monotonic() + 20
    while running_batches(live) == before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return answered


def test_sigterm_drains_first_and_loses_no_request(start: Start) -> None:
    with start(drain_seconds="3") as live:
        answers: list[Any] = []
        answered = slow_request(live, answers)
        live.process.send_signal(signal.SIGTERM)
        # This must end within drain_seconds. After that, connections are refused.
        while (probe := httpx2.get(f"{live.address}/readyz")).is_success:
            time.sleep(0.01)
        assert "draining" in probe.json()["detail"]
        assert httpx2.get(f"{live.address}/livez").is_success
        assert httpx2.get(f"{live.address}/gan/generate?seed=1").is_success
        answered.join(60)
        assert [answer.status_code for answer in answers] == [200]
        assert live.process.wait(30) == 0


def test_a_client_that_disconnects_frees_the_worker(start: Start) -> None:
    with start(drain_seconds="0") as live:
        body = heavy(2000, 100_000)
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{live.address}/em/register", json=body, timeout=2)
        # The same lane, and therefore the same thread. It ends after its first iteration, the other one after an hour.
        body |= {"max_iterations": 100, "tolerance": 1e9}
        assert httpx2.post(f"{live.address}/em/register", json=body, timeout=60).is_success
        assert 'status="499"' in httpx2.get(f"{live.address}/metrics").text


@pytest.mark.parametrize("kind", ["digit=1&truncation=0.05", "digit=1&truncation=0.05&sampler=rejection"])
def test_a_client_that_disconnects_during_a_choice_frees_its_lane(live: Live, kind: str) -> None:
    with pytest.raises(httpx2.ReadTimeout):  # 1,024 times 2,048 latents take half a minute
        httpx2.get(f"{live.address}/gan/generate?seed=1&count=1024&{kind}", timeout=1)
    started = processor_seconds(live)
    assert httpx2.get(f"{live.address}/gan/generate?seed=1&digits={'1' * 33}", timeout=60).is_success
    assert processor_seconds(live) - started < 10


def test_the_log_has_one_json_object_per_line_with_the_request_id(start: Start) -> None:
    with start(drain_seconds="0") as live:
        httpx2.get(f"{live.address}/gan/generate?seed=1", headers={"X-Request-Id": "find-me"})
        deadline = time.monotonic() + 30
        while "find-me" not in live.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        lines = [json.loads(line) for line in live.log.read_text().splitlines()]
    (line,) = [line for line in lines if line.get("request_id") == "find-me"]
    assert line["status"] == 200
    assert line["path"] == "/gan/generate"


def test_a_client_that_disconnects_during_a_get_is_a_499(start: Start) -> None:
    with start(drain_seconds="0") as live:
        # The jobs of the other clients come first, and their batches take two seconds. The request waits for them.
        host, port = live.address.removeprefix("http://").split(":")
        with ExitStack() as stack:
            others = [stack.enter_context(closing(HTTPConnection(host, int(port), timeout=60))) for _ in range(24)]
            with halted(live.process):
                for connection in others:
                    connection.request("GET", "/gan/generate?count=1024&format=npy")
                with socket.create_connection((host, int(port))) as impatient:
                    impatient.sendall(b"GET /gan/generate?count=1024&seed=99&format=npy HTTP/1.1\r\nhost: x\r\n\r\n")
            assert [connection.getresponse().status for connection in others] == [200] * 24
        deadline = time.monotonic() + 30
        while 'status="499"' not in httpx2.get(f"{live.address}/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_request_that_outlasts_the_shutdown_gets_a_503(start: Start) -> None:
    with start(drain_seconds="0", shutdown_seconds="1") as live:
        answers: list[Any] = []
        body = heavy(2000, 9999)
        request = threading.Thread(
            target=lambda: answers.append(httpx2.post(f"{live.address}/em/register", json=body, timeout=60))
        )
        request.start()
        before = time.monotonic() + 20
        while running_batches(live) == 0:
            assert time.monotonic() < before
            time.sleep(0.01)
        live.process.send_signal(signal.SIGTERM)
        request.join(30)
        (answer,) = answers
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert live.process.wait(15) == 0


def exchange(live: Live, request: bytes) -> bytes:
    """The bytes that the service sends in answer to `request`, until it closes the connection."""
    host, port = live.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        answer = b""
        try:
            connection.sendall(request)
            while received := connection.recv(65536):
                answer += received
        except ConnectionError:  # the service closed the connection before it had read everything
            pass
        return answer


def test_an_offer_to_upgrade_is_ignored_and_the_body_read(live: Live) -> None:
    body = b'{"q": {"mu": [0.0], "sigma": [1.0]}}'
    head = (
        b"POST /vae/kl HTTP/1.1\r\nhost: x\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABk\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    )
    assert exchange(live, head + body).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", ["/gan/generate?seed=1", "/gan/generate?seed=1&format=json", "/nothing", "/livez"])
def test_head_is_answered_without_a_body_and_the_connection_goes_on(live: Live, path: str) -> None:
    whole = httpx2.get(live.address + path)
    head = b"HEAD %s HTTP/1.1\r\nhost: x\r\n" % path.encode()
    first, second, rest = exchange(live, head + b"\r\n" + head + b"connection: close\r\n\r\n").split(b"\r\n\r\n")
    assert rest == b""
    for answer in (first, second):
        assert answer.startswith(b"HTTP/1.1 %d" % whole.status_code)
        assert b"\r\ncontent-length: %d\r\n" % len(whole.content) in answer.lower()


def problem_of(answer: bytes) -> dict[str, Any]:
    """The problem in the bytes of an answer, after a check of its headers."""
    head, _, content = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    problem: dict[str, Any] = json.loads(content)
    assert status.startswith(f"HTTP/1.1 {problem['status']} ")
    assert headers["content-type"] == "application/problem+json"
    assert int(headers["content-length"]) == len(content)
    assert headers["connection"] == "close"
    assert headers["x-latentserve-version"] == VERSION
    assert re.fullmatch("[0-9a-f]{16}", headers["x-request-id"])
    return problem


CHUNKED = b"POST /vae/kl HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"NONSENSE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /livez HTTP/x\r\nhost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: x\r\na b: c\r\n\r\n",
        b"POST /vae/kl HTTP/1.1\r\nhost: x\r\ncontent-length: many\r\n\r\n",
        b"POST /vae/kl HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n12",
        CHUNKED + b"content-length: 5\r\n\r\n12345",
        CHUNKED + b"\r\nzz\r\n",
        CHUNKED + b"\r\n2\r\n{}3\r\n",
    ],
)
def test_malformed_requests_are_answered_with_a_problem(live: Live, request_bytes: bytes) -> None:
    problem = problem_of(exchange(live, request_bytes))
    assert problem["type"] == "urn:latentserve:problem:malformed-request"
    assert problem["detail"].startswith("the request is not valid HTTP/1.1: ")
    assert httpx2.get(f"{live.address}/livez").is_success


def test_a_request_before_malformed_bytes_has_its_own_answer_and_no_other(live: Live) -> None:
    good = b"GET /gan/generate?seed=1&format=json HTTP/1.1\r\nhost: x\r\n\r\n"
    expected = httpx2.get(f"{live.address}/gan/generate?seed=1&format=json")
    answer = exchange(live, good + b"NONSENSE\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(expected.content)
    assert answer.count(b"HTTP/1.1") == 1
    answer = exchange(live, good + good + b"NONSENSE\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200") == answer.count(b"HTTP/1.1") == 2
    assert answer.endswith(expected.content)


def test_oversized_headers_end_only_their_own_connection(live: Live) -> None:
    endless = b"GET /livez HTTP/1.1\r\nhost: x\r\n" + b"x-filler: " + b"y" * 1000 + b"\r\n"
    oversized = endless + (b"x-filler: " + b"y" * 1000 + b"\r\n") * 500 + b"\r\n"
    assert problem_of(exchange(live, oversized))["status"] == 431
    assert exchange(live, endless + b"connection: close\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert httpx2.get(f"{live.address}/livez").is_success
