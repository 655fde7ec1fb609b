"""A device that fails for good ends its process, and the service goes on with another one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.e2e.conftest import children, free_port, running, wait_until_ready

# The service, whose device is lost at the first encoder of dimension 13 in a process.
SCRIPT = """
import sys
import torch
from service.runtime import devices
from service.vae import worker

lost, compute = [], worker.VaeWorker.__call__

def faulty(self, jobs):
    if any(getattr(job, "seed", 0) == 13 for job in jobs):
        lost.append(True)
    if lost:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")
    return compute(self, jobs)

worker.VaeWorker.__call__ = faulty
devices.computes = lambda device: not lost
from service.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@contextmanager
def faulty(log: Path, processes: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A service whose device is lost by a reparameterization with seed 13."""
    port = free_port()
    command = [sys.executable, "-c", SCRIPT, "serve", "--port", str(port)]
    settings = {"LATENTSERVE_PROCESSES": str(processes), "LATENTSERVE_SHUTDOWN_SECONDS": "5"}
    with running(command, os.environ | settings, port, log) as process:
        yield f"http://127.0.0.1:{port}", process


def sample(address: str, seed: int) -> httpx2.Response:
    body = {"mu": [0.0], "sigma": [1.0], "grad_z": [1.0], "seed": seed}
    return httpx2.post(f"{address}/vae/reparam-grad", json=body, timeout=60)


def events(log: Path) -> list[str]:
    return [json.loads(line)["event"] for line in log.read_text().splitlines() if line.startswith("{")]


def test_the_supervisor_replaces_a_process_whose_device_is_lost(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with faulty(log, 2) as (address, process):
        before = children(process.pid)
        answer = sample(address, 13)
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:latentserve:problem:device-lost")
        assert answer.headers["retry-after"]
        deadline = time.monotonic() + 60
        while "replica died" not in events(log) or len(children(process.pid)) < len(before):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert len(set(before) - set(children(process.pid))) == 1
        wait_until_ready(address, process)
        assert all(sample(address, 1).is_success for _ in range(8))
    assert events(log).count("device lost") == 1


def test_without_a_supervisor_the_process_ends_with_status_1_and_says_why(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with faulty(log, 1) as (address, process):
        assert sample(address, 13).status_code == 503
        assert process.wait(30) == 1
    assert "the process is stuck and ends" in events(log)
