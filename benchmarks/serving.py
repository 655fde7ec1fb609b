"""64 calls at once against the same 64 calls one after another, for every endpoint that computes.

`python -m benchmarks.serving` starts the service by itself on a free port and prints a table: medians over the
rounds, which alternate between the two ways, and the mean batch size of the concurrent calls from /metrics.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import httpx2
import numpy as np

CALLS = 64
ROUNDS = 7


class Call(NamedTuple):
    """One request: method, path, and a JSON body."""

    method: str
    path: str
    body: Any = None


def calls() -> dict[str, list[Call]]:
    """64 different requests for each endpoint."""
    dice = np.random.default_rng(0)
    cloud = dice.normal(size=(CALLS, 100, 2))
    moved = cloud + dice.normal(size=(CALLS, 1, 2)) + 0.01 * dice.normal(size=cloud.shape)
    mu, sigma, grad = dice.normal(size=(3, CALLS, 64))
    images = dice.integers(0, 256, (CALLS, 1, 32, 32))
    steps = [{"source": p.tolist(), "target": q.tolist(), "sigma": 0.1} for p, q in zip(cloud, moved, strict=True)]
    uniform = np.full((100, 100), 0.01).tolist()
    return {
        "GET /gan/generate": [Call("GET", f"/gan/generate?seed={seed}") for seed in range(CALLS)],
        "POST /gan/generate": [Call("POST", "/gan/generate", {"seed": seed}) for seed in range(CALLS)],
        "POST /gan/discriminate": [Call("POST", "/gan/discriminate", {"images": x.tolist()}) for x in images],
        "POST /vae/reparam-grad": [
            Call(
                "POST",
                "/vae/reparam-grad",
                {"mu": m.tolist(), "log_variance": s.tolist(), "grad_z": g.tolist(), "seed": seed},
            )
            for seed, (m, s, g) in enumerate(zip(mu, sigma, grad, strict=True))
        ],
        "POST /vae/kl": [
            Call("POST", "/vae/kl", {"q": {"mu": m.tolist(), "log_variance": s.tolist()}})
            for m, s in zip(mu, sigma, strict=True)
        ],
        "POST /em/register": [Call("POST", "/em/register", step) for step in steps],
        "POST /em/expectation": [Call("POST", "/em/expectation", step) for step in steps],
        "POST /em/maximization": [
            Call(
                "POST",
                "/em/maximization",
                {"source": step["source"], "target": step["target"], "responsibilities": uniform},
            )
            for step in steps
        ],
        "POST /em/log-likelihood": [Call("POST", "/em/log-likelihood", step) for step in steps],
    }


@contextmanager
def service() -> Iterator[str]:
    """The service in a process of its own; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"LATENTSERVE_DRAIN_SECONDS": "0"}
    command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
    # The log goes to a file: a pipe that nobody reads would fill up and stop the service.
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(command, env=environment, stderr=log) as process:
        try:
            for _ in range(600):
                with suppress(httpx2.TransportError):
                    if httpx2.get(f"http://127.0.0.1:{port}/readyz").is_success:
                        break
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"the service did not start:\n{log.read()}")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


async def send(client: httpx2.AsyncClient, call: Call) -> bytes:
    """One call, which has to succeed."""
    response = await client.request(call.method, call.path, json=call.body)
    response.raise_for_status()
    return response.content


async def measure(client: httpx2.AsyncClient, requests: list[Call]) -> tuple[float, float, bool]:
    """Median seconds one after another, and at once; and whether both gave the same bytes."""
    apart, together = [], []
    alike = True
    for _ in range(ROUNDS):
        start = time.perf_counter()
        first = [await send(client, request) for request in requests]
        middle = time.perf_counter()
        second = await asyncio.gather(*(send(client, request) for request in requests))
        apart.append(middle - start)
        together.append(time.perf_counter() - middle)
        alike &= first == second
    return statistics.median(apart), statistics.median(together), alike


async def batches(client: httpx2.AsyncClient) -> tuple[float, float, float]:
    """Jobs, batches, and batches of more than one so far."""
    text = (await client.get("/metrics")).text
    total = {
        name: sum(float(value) for value in re.findall(rf"^latentserve_batch_size_{name}{{.*?}} (\S+)$", text, re.M))
        for name in ("sum", "count")
    }
    single = sum(float(value) for value in re.findall(r'^latentserve_batch_size_bucket{.*le="1.0"} (\S+)$', text, re.M))
    return total["sum"], total["count"], total["count"] - single


async def main() -> None:
    """Print the table."""
    limits = httpx2.Limits(max_connections=CALLS, max_keepalive_connections=CALLS)
    row = "{:<24} {:>12} {:>12} {:>8} {:>12} {:>12} {:>6}"
    with service() as address:
        async with httpx2.AsyncClient(base_url=address, limits=limits, timeout=60) as client:
            print(row.format("64 calls of", "apart ms", "together ms", "ratio", "mean batch", "batches > 1", "same"))
            for name, requests in calls().items():
                await asyncio.gather(*(send(client, request) for request in requests))
                before = await batches(client)
                apart, together, alike = await measure(client, requests)
                jobs, count, several = np.subtract(await batches(client), before)
                single = ROUNDS * CALLS  # the calls one after another
                print(
                    row.format(
                        name,
                        f"{apart * 1e3:.1f}",
                        f"{together * 1e3:.1f}",
                        f"{apart / together:.2f}",
                        f"{(jobs - single) / max(count - single, 1):.1f}",
                        f"{several:.0f}",
                        "yes" if alike else "NO",
                    ),
                    flush=True,
                )


if __name__ == "__main__":
    asyncio.run(main())
