"""A log that cannot be written costs its lines only: requests are answered, and SIGTERM ends the service."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.e2e.conftest import ROOT, free_port, wait_until_ready

# Their lines fill a pipe of 64 KiB more than twice.
REQUESTS = 1000


@contextmanager
def broken_stderr(fault: str) -> Iterator[int]:
    """A descriptor for the stderr of a service."""
    if fault == "disk that hangs":
        with tempfile.TemporaryFile() as file:
            yield file.fileno()
        return
    opened = [os.open("/dev/full", os.O_WRONLY)] if fault == "full disk" else [*os.pipe()][::-1]
    if fault == "broken pipe":
        os.close(opened.pop())
    try:
        yield opened[0]
    finally:
        for descriptor in opened:
            os.close(descriptor)


@pytest.mark.parametrize(
    ("fault", "processes"),
    [
        *[(fault, "2") for fault in ("full disk", "broken pipe", "stalled reader", "closed", "disk that hangs")],
        *[(fault, "1") for fault in ("stalled reader", "disk that hangs")],
    ],
)
def test_whatever_happens_to_stderr_requests_are_answered_and_sigterm_is_obeyed(fault: str, processes: str) -> None:
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
    if fault == "closed":
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    if fault == "disk that hangs":
        command[2:3] = ["benchmarks.faults.launcher", "hung"]
    settings = {"LATENTSERVE_PROCESSES": processes, "LATENTSERVE_DRAIN_SECONDS": "0"}
    with (
        broken_stderr(fault) as stderr,
        subprocess.Popen(command, cwd=ROOT, env=os.environ | settings, stderr=stderr) as process,
    ):
        try:
            wait_until_ready(address, process)
            with httpx2.Client(base_url=address, timeout=60) as client:
                for _ in range(REQUESTS):
                    assert client.get("/vae/encoder-size?dimension=2&covariance=full").is_success
                lost = re.search(r"^latentserve_log_lines_lost_total (\S+)$", client.get("/metrics").text, re.MULTILINE)
            assert lost is not None
            assert (float(lost[1]) > 0) == (fault in {"full disk", "broken pipe"})
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
