"""Several processes and one GPU: one process draws for all of them. Here a processor stands in for the GPU."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from service.runtime.usage import proportional_bytes
from tests.e2e.conftest import Live, Start, children, free_port, running, wait_until_ready

# The service on a machine whose GPU computes exactly what a processor computes.
SCRIPT = """
import os, sys, time
from functools import partial
from types import SimpleNamespace
import torch
from service.gan import passes, sampling
from service.runtime import devices

def on_cuda(generator, discriminator, device, companions):
    while os.path.exists(os.environ["AWAY"]):
        time.sleep(0.01)
    networks = [discriminator.logits, companions.classifier, companions.judge]
    return [sampling.Sampler(generator), *(partial(sampling.logits, network) for network in networks)]

prepare = devices.prepare
torch.version.cuda = "1.0"
devices.prepare = lambda name: prepare(name) if name == "cpu" else SimpleNamespace(type="cuda")
devices.describe = lambda device: "a pretended GPU"
devices.computes = lambda device: True
passes.on_cuda = on_cuda
from service.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
PATHS = [
    "/gan/generate?seed=3",
    "/gan/generate?seed=4&count=300&format=npy",
    "/gan/generate?seed=5&count=5&scores=true&format=json",
    "/gan/generate?seed=6&digit=4",
    "/gan/generate?seed=7&sampler=rejection",
    "/gan/interpolate?seeds=1,5&frames=3",
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A service of two processes, and a third one that draws."""
    folder = tmp_path_factory.mktemp("device")
    port, log = free_port(), folder / "log"
    command = [sys.executable, "-c", SCRIPT, "serve", "--port", str(port)]
    settings = {"LATENTSERVE_PROCESSES": "2", "LATENTSERVE_DEVICE": "cuda", "LATENTSERVE_DRAIN_SECONDS": "0"}
    with running(command, os.environ | settings | {"AWAY": str(folder / "away")}, port, log) as process:
        yield Live(f"http://127.0.0.1:{port}", process, log)


def ask(live: Live, path: str) -> httpx2.Response:
    """The answer over a connection of its own, so that the processes take turns."""
    return httpx2.get(live.address + path, timeout=60)


def insist(live: Live, path: str) -> httpx2.Response:
    """The same, asked again while the service is too busy: it expects that after its first requests, which are slow."""
    deadline = time.monotonic() + 60
    while (answer := ask(live, path)).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert answer.status_code == 200, answer.text
    return answer


def drawing(live: Live) -> int:
    """The process that draws: the supervisor starts it first."""
    return children(live.process.pid)[0]


def test_the_bytes_are_those_of_the_process_that_draws_for_all(shared: Live, live: Live) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda path: insist(shared, path), PATHS * 4))
    for path, answer in zip(PATHS * 4, found, strict=True):
        # The stand-in computes what the other service's processes compute by themselves.
        assert answer.content == insist(live, path).content


def test_pictures_of_another_kind_of_processor_have_another_tag(shared: Live, live: Live) -> None:
    assert insist(shared, PATHS[0]).headers["etag"] != insist(live, PATHS[0]).headers["etag"]


def test_if_the_process_that_draws_dies_the_others_go_on_and_it_is_replaced(shared: Live) -> None:
    before = children(shared.process.pid)
    os.kill(drawing(shared), signal.SIGKILL)
    body = {"mu": [0.0], "sigma": [1.0], "grad_z": [1.0]}
    assert httpx2.post(f"{shared.address}/vae/reparam-grad", json=body, timeout=60).status_code == 200
    assert ask(shared, "/livez").status_code == 200
    deadline = time.monotonic() + 60
    statuses = set()
    while True:
        answer = ask(shared, f"/gan/generate?seed={time.monotonic_ns()}")
        statuses.add(answer.status_code)
        if answer.status_code == 200 and len(children(shared.process.pid)) == len(before):
            break
        if answer.status_code != 200:
            assert answer.json()["type"] == "urn:latentserve:problem:device-lost"
            assert answer.headers["retry-after"]
        assert time.monotonic() < deadline
    assert statuses <= {200, 503}
    assert len(set(before) - set(children(shared.process.pid))) == 1
    events = [json.loads(line)["event"] for line in shared.log.read_text().splitlines() if line.startswith("{")]
    assert events.count("the process of the GPU died") == 1
    assert "replica died" not in events


@pytest.mark.gpu
def test_on_a_gpu_two_processes_give_the_bytes_of_one(start: Start) -> None:
    answers = []
    for processes in ("1", "2"):
        with start(processes=processes, device="cuda", drain_seconds="0") as service, ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda path, service=service: insist(service, path), PATHS * 4))
            answers.append([(answer.content, answer.headers.get("etag")) for answer in found])
    for path, one, two in zip(PATHS * 4, *answers, strict=True):
        assert one == two, path


def test_without_a_gpu_the_processes_draw_by_themselves(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    script = SCRIPT.replace('SimpleNamespace(type="cuda")', 'prepare("cpu")')
    command = [sys.executable, "-c", script, "serve", "--port", str(port)]
    settings = {"LATENTSERVE_PROCESSES": "2", "LATENTSERVE_DRAIN_SECONDS": "0", "AWAY": ""}
    with running(command, os.environ | settings, port, log) as process:
        service = Live(f"http://127.0.0.1:{port}", process, log)
        assert len(children(process.pid)) == 2
        for path in PATHS:
            insist(service, path)


def test_the_metrics_include_the_memory_of_the_process_that_draws(shared: Live) -> None:
    text = ask(shared, "/metrics").text
    (reported,) = [
        float(line.split()[1]) for line in text.splitlines() if line.startswith("process_resident_memory_bytes")
    ]
    shares = [proportional_bytes(Path(f"/proc/{pid}")) for pid in (shared.process.pid, *children(shared.process.pid))]
    # Without the process that draws, it would be less than this.
    assert reported > sum(shares) - 0.5 * min(shares)


def test_replicas_that_start_while_the_gpu_is_away_answer_what_does_not_need_it(shared: Live) -> None:
    away = shared.log.parent / "away"
    away.touch()
    try:
        for pid in children(shared.process.pid):
            os.kill(pid, signal.SIGKILL)
        body = {"mu": [0.0], "sigma": [1.0], "grad_z": [1.0]}
        assert persist(lambda: httpx2.post(f"{shared.address}/vae/reparam-grad", json=body, timeout=60)).is_success
        clouds = {"source": [[0, 0], [1, 0], [0, 1]], "target": [[1, 0], [2, 0], [1, 1]]}
        assert httpx2.post(f"{shared.address}/em/register", json=clouds, timeout=60).is_success
        digits = ask(shared, "/gan/generate?seed=3")
        assert (digits.status_code, digits.json()["type"]) == (503, "urn:latentserve:problem:device-lost")
        assert digits.headers["retry-after"]
        ready = {path: ask(shared, path).status_code for path in ("/readyz", "/v2/models/gan/ready", "/livez")}
        assert ready == {"/readyz": 503, "/v2/models/gan/ready": 503, "/livez": 200}
    finally:
        away.unlink()
    wait_until_ready(shared.address, shared.process)
    assert insist(shared, "/gan/generate?seed=3").content
    events = [json.loads(line)["event"] for line in shared.log.read_text().splitlines() if line.startswith("{")]
    assert "replica is stuck" not in events


def persist(request: Callable[[], httpx2.Response]) -> httpx2.Response:
    """The answer to `request`, asked again while the connection breaks."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return request()
        except httpx2.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
