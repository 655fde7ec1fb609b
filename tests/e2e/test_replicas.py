"""Several processes behind one port: balance, totals, deaths and ends."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import httpx2
import pytest

from service.runtime.losses import SETTLE_SECONDS
from service.version import VERSION
from service.web.heads import POLICY
from tests.e2e.conftest import ROOT, Live, Start, busy_connection, children, free_port, wait_until_ready


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def total(live: Live, name: str) -> float:
    """The sum of all samples of one metric, or of those with certain labels."""
    # A replica that is being killed closes the connections that it was given.
    while True:
        with suppress(httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.ConnectError):
            text = httpx2.get(f"{live.address}/metrics", timeout=60).text
            break
        assert live.process.poll() is None
    return sum(
        float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith((name + " ", name + "{"))
    )


def connections_of(pid: int, port: int) -> int:
    """Connections of a process at the service's port. Those that it has closed have also been reported as closed."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if match := re.fullmatch(r"socket:\[(\d+)\]", target):
            inodes.add(match[1])
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[9] in inodes for row in rows)


@pytest.fixture(scope="module")
def pair(start: Start) -> Iterator[Live]:
    """One service of two processes, shared by the tests that leave it with two."""
    with start(drain_seconds="0", processes="2", connections="80") as live:
        until(lambda: total(live, "latentserve_replicas") == 2)
        yield live


@pytest.mark.parametrize("count", [4, 64])
def test_connections_are_shared_equally(pair: Live, count: int) -> None:
    port = int(pair.address.rpartition(":")[2])
    pids = children(pair.process.pid)
    until(lambda: sum(connections_of(pid, port) for pid in pids) == 0)
    time.sleep(2 * SETTLE_SECONDS)  # connections that have just closed still count
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        until(lambda: sum(connections_of(pid, port) for pid in pids) == count)
        assert [connections_of(pid, port) for pid in pids] == [count // 2, count // 2]


def test_beyond_the_limit_a_connection_is_told_so_and_probes_are_answered(pair: Live) -> None:
    port = int(pair.address.rpartition(":")[2])
    pids = children(pair.process.pid)
    until(lambda: sum(connections_of(pid, port) for pid in pids) == 0)
    with ExitStack() as stack:
        for _ in range(80):
            stack.enter_context(busy_connection(port))
        until(lambda: sum(connections_of(pid, port) for pid in pids) == 80)
        for path in ("/livez", "/readyz", "/metrics"):
            assert httpx2.get(f"{pair.address}{path}", timeout=60).status_code == 200
        answer = httpx2.get(f"{pair.address}/vae/encoder-size?dimension=2", timeout=60)
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "1"
        assert answer.headers["x-latentserve-version"] == VERSION
        assert answer.headers["content-security-policy"] == POLICY
        assert "LATENTSERVE_CONNECTIONS" in answer.json()["detail"]
        # Those beside them who say nothing hold the connections for probes for a moment only.
        others = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(40)]
        until(lambda: httpx2.get(f"{pair.address}/livez", timeout=60).is_success)
        assert len(others) == 40
    until(lambda: httpx2.get(f"{pair.address}/vae/encoder-size?dimension=2", timeout=60).is_success)


def test_all_processes_give_the_same_bytes(pair: Live) -> None:
    paths = [f"/gan/generate?seed={seed}&count=4" for seed in range(8)]
    with ExitStack() as stack:
        # New connections take turns, so the two are in different processes.
        clients = [stack.enter_context(httpx2.Client(base_url=pair.address, timeout=60)) for _ in range(2)]
        for client in clients:
            client.get("/livez")
        first, second = ([client.get(path) for path in paths] for client in clients)
    assert [answer.content for answer in first] == [answer.content for answer in second]
    assert [answer.headers["etag"] for answer in first] == [answer.headers["etag"] for answer in second]


def test_metrics_are_totals_over_all_processes_from_each_of_them(pair: Live) -> None:
    def answered() -> float:
        return total(pair, 'latentserve_requests_total{method="GET",route="/vae/encoder-size",status="200"}')

    before = answered()
    for _ in range(10):  # on connections of their own, which take turns
        assert httpx2.get(f"{pair.address}/vae/encoder-size?dimension=2&covariance=full").is_success
    assert [answered() - before for _ in range(4)] == [10] * 4


def test_the_log_says_once_that_the_service_is_ready(pair: Live) -> None:
    def events() -> list[str]:
        return [json.loads(line)["event"] for line in pair.log.read_text().splitlines()]

    until(lambda: "ready" in events())
    assert [event for event in events() if event != "request"] == ["listening", "ready"]


def test_the_parent_has_one_thread(pair: Live) -> None:
    assert len(list(Path(f"/proc/{pair.process.pid}/task").iterdir())) == 1


def test_an_engine_is_ready_by_its_name(pair: Live) -> None:
    for name in ("em", "vae", "gan"):
        assert httpx2.get(f"{pair.address}/v2/models/{name}/ready").is_success


def test_a_replica_that_is_killed_loses_only_its_own_requests_and_is_replaced(pair: Live) -> None:
    restarts = total(pair, "latentserve_replica_restarts_total")
    counted = total(pair, "latentserve_requests_total")
    stop = threading.Event()
    expected = [httpx2.get(f"{pair.address}/gan/generate?seed={seed}").content for seed in range(8)]

    def ask(number: int) -> tuple[int, int]:
        """Ask until the stop. Returns the numbers of answers and of closed connections; any other failure raises."""
        answers = closed = 0
        client = httpx2.Client(base_url=pair.address, timeout=60)
        while not stop.is_set():
            try:
                answer = client.get(f"/gan/generate?seed={number}")
            except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError, httpx2.ConnectError):
                closed += 1
                continue
            assert answer.status_code == 200
            assert answer.content == expected[number]
            answers += 1
        client.close()
        return answers, closed

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, number) for number in range(8)]
        try:
            until(lambda: total(pair, "latentserve_requests_total") > counted + 100)
            victim = children(pair.process.pid)[0]
            os.kill(victim, signal.SIGKILL)
            until(lambda: total(pair, "latentserve_replica_restarts_total") == restarts + 1)
            until(lambda: total(pair, "latentserve_replicas") == 2)
            assert victim not in children(pair.process.pid)
        finally:
            stop.set()
        results = [one.result() for one in asking]
    assert all(answers > 0 for answers, _ in results)
    # Each process held about half of the eight connections, and those of the other one are not lost.
    assert sum(closed == 0 for _, closed in results) >= 3
    assert total(pair, "latentserve_requests_total") > counted + 100


def test_counters_never_go_down_when_a_replica_dies(pair: Live) -> None:
    before = total(pair, "latentserve_requests_total")
    restarts = total(pair, "latentserve_replica_restarts_total")
    os.kill(children(pair.process.pid)[-1], signal.SIGKILL)
    last = before
    while True:
        try:
            if total(pair, "latentserve_replica_restarts_total") > restarts:
                break
            now = total(pair, "latentserve_requests_total")
        except httpx2.TransportError:  # the connection was that replica's
            continue
        assert now >= last
        last = now
    until(lambda: total(pair, "latentserve_replicas") == 2)
    assert total(pair, "latentserve_requests_total") >= last


def test_a_second_service_on_the_port_ends_at_once_with_one_line(pair: Live) -> None:
    port = pair.address.rpartition(":")[2]
    command = [sys.executable, "-m", "service", "serve", "--port", port]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert ended.stderr == f"latentserve does not start: 127.0.0.1:{port}: address already in use\n"
    assert httpx2.get(f"{pair.address}/livez").is_success


def test_a_device_that_is_not_there_ends_the_start_with_one_line() -> None:
    command = [sys.executable, "-m", "service", "serve", "--port", "0"]
    environment = os.environ | {"LATENTSERVE_DEVICE": "cuda:99", "LATENTSERVE_PROCESSES": "2"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith("latentserve does not start: device 'cuda:99'")


def test_sigterm_under_load_loses_no_request_and_ends_all_processes(start: Start) -> None:
    with start(drain_seconds="1", processes="2") as live:
        pids = children(live.process.pid)
        stop = threading.Event()

        def ask(number: int) -> int:
            """One request per connection until the service refuses connections. Returns the number of answers."""
            answers = 0
            host, port = live.address.removeprefix("http://").split(":")
            while not stop.is_set():
                with closing(HTTPConnection(host, int(port), timeout=60)) as connection:
                    try:
                        connection.connect()
                    except ConnectionRefusedError:
                        return answers
                    try:
                        connection.request("GET", f"/gan/generate?seed={number}")
                        assert connection.getresponse().status == 200
                    except ConnectionError:
                        # Connected when the service had stopped to listen, so no process ever had it.
                        assert stopped.is_set()
                        return answers
                    answers += 1
            return answers

        stopped = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask, number) for number in range(8)]
            time.sleep(0.5)
            stopped.set()
            live.process.send_signal(signal.SIGTERM)
            assert live.process.wait(60) == 0
            stop.set()
            assert all(one.result() > 0 for one in asking)
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@contextmanager
def serving(log: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A service of two processes, as the leader of a group of its own, that is ready at a port."""
    port = free_port()
    environment = os.environ | {"LATENTSERVE_PROCESSES": "2"}
    command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
    with (
        log.open("wb") as stderr,
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=stderr, start_new_session=True) as process,
    ):
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process)
            yield process, port
        finally:
            process.kill()


def test_replicas_end_with_a_supervisor_that_is_killed_and_the_port_is_free(tmp_path: Path) -> None:
    with serving(tmp_path / "log") as (process, port):
        pids = children(process.pid)
        assert len(pids) == 2
        process.kill()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        probe.listen()


def test_ctrl_c_in_a_terminal_stops_all_processes_with_status_0(tmp_path: Path) -> None:
    with serving(tmp_path / "log") as (process, _):
        pids = children(process.pid)
        # A terminal sends SIGINT to all processes of its foreground group.
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(60) == 0
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    assert "Traceback" not in (tmp_path / "log").read_text()
