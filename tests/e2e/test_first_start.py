"""The first start on a machine, before registration is compiled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from tests.e2e.conftest import ROOT, free_port

CLOUDS = {"source": [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]], "target": [[1.0, 1.0], [2.0, 1.0], [1.0, 3.0]]}


@pytest.mark.parametrize("processes", ["1", "2"])
def test_digits_and_the_vae_answer_while_registration_is_compiled(tmp_path: Path, processes: str) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path / "numba"),
        "LATENTSERVE_PROCESSES": processes,
        "LATENTSERVE_DRAIN_SECONDS": "0",
    }
    command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stderr=log) as process,
    ):
        try:
            deadline = time.monotonic() + 240
            while True:
                assert time.monotonic() < deadline
                assert process.poll() is None
                with suppress(httpx2.TransportError):
                    if httpx2.get(f"{address}/gan/generate?seed=1", timeout=60).is_success:
                        break
                time.sleep(0.05)
            # The compilation takes a minute of two processors, and a registration cannot be answered before its end.
            assert httpx2.post(f"{address}/vae/kl", json={"q": {"mu": [0.0], "sigma": [1.0]}}, timeout=60).is_success
            early = httpx2.post(f"{address}/em/register", json=CLOUDS, headers={"X-Timeout-Seconds": "0.5"}, timeout=60)
            ready = {
                name: httpx2.get(f"{address}/v2/models/{name}/ready", timeout=60).status_code for name in ("em", "gan")
            }
            unready = httpx2.get(f"{address}/readyz", timeout=60)
            assert early.status_code == 503
            assert "compiled" in early.json()["detail"]
            assert int(early.headers["retry-after"]) >= 1
            assert ready == {"em": 503, "gan": 200}
            assert "em" in unready.json()["detail"]
            assert httpx2.get(f"{address}/livez", timeout=60).is_success
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
