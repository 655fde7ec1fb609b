"""Compare 64 concurrent calls with the same 64 calls in sequence, for every endpoint that computes.

`python -m benchmarks.serving` starts the service on a free port and prints a table. Times are medians over rounds that
alternate between the two modes. The mean batch size of the concurrent calls comes from /metrics.
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
import orjson
import uvloop

CALLS = 64
ROUNDS = 7


class Call(NamedTuple):
    """One request: method, path, and a JSON body."""

    method: str
    path: str
    body: Any = None


def calls() -> dict[str, list[Call]]:
    """64 different requests for each endpoint."""
    rng = np.random.default_rng(0)
    cloud = rng.normal(size=(CALLS, 100, 2))
    moved = cloud + rng.normal(size=(CALLS, 1, 2)) + 0.01 * rng.normal(size=cloud.shape)
    mu, sigma, grad = rng.normal(size=(3, CALLS, 64))
    images = rng.integers(0, 256, (CALLS, 1, 32, 32))
    problems = [{"source": p.tolist(), "target": q.tolist(), "sigma": 0.1} for p, q in zip(cloud, moved, strict=True)]
    # Single steps are teaching tools: with many points, N x M numbers of JSON outweigh the computation.
    steps = [{"source": p["source"][:20], "target": p["target"][:20], "sigma": 0.1} for p in problems]
    uniform = np.full((20, 20), 0.05).tolist()
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
        "POST /em/register": [Call("POST", "/em/register", problem) for problem in problems],
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
    """Run the service in its own process; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"LATENTSERVE_DRAIN_SECONDS": "0"}
    command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
    # The log goes to a file, because an unread pipe would fill up and block the service.
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
            else:
                raise SystemExit("the service was not ready within a minute")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


class Connection:
    """A keep-alive connection that sends prepared bytes, so that the client costs little itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, request: bytes) -> bytes:
        """Send a request and return the body of the answer. Exits unless the status is 200."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if not head.startswith(b"HTTP/1.1 200") or length is None:
            raise SystemExit(head.decode())
        return await self._reader.readexactly(int(length[1]))


def to_bytes(call: Call) -> bytes:
    """The call as an HTTP/1.1 request."""
    body = b"" if call.body is None else orjson.dumps(call.body)
    head = f"{call.method} {call.path} HTTP/1.1\r\nhost: latentserve\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def measure(connections: list[Connection], requests: list[bytes]) -> tuple[list[float], list[float], bool]:
    """Seconds of each round in sequence and concurrently, and whether both modes gave the same bytes."""
    apart, together = [], []
    alike = True
    for _ in range(ROUNDS):
        start = time.perf_counter()
        first = [await connections[0].send(request) for request in requests]
        middle = time.perf_counter()
        second = await asyncio.gather(*map(Connection.send, connections, requests))
        apart.append(middle - start)
        together.append(time.perf_counter() - middle)
        alike &= first == second
    return apart, together, alike


async def batches(client: httpx2.AsyncClient) -> tuple[float, float, float]:
    """Total jobs, batches, and batches of more than one job so far."""
    text = (await client.get("/metrics")).text
    total = {
        name: sum(float(value) for value in re.findall(rf"^latentserve_batch_size_{name}{{.*?}} (\S+)$", text, re.M))
        for name in ("sum", "count")
    }
    single = sum(float(value) for value in re.findall(r'^latentserve_batch_size_bucket{.*le="1.0"} (\S+)$', text, re.M))
    return total["sum"], total["count"], total["count"] - single


async def main() -> None:
    """Print the table."""
    row = "{:<24} {:>10} {:>12} {:>7} {:>11} {:>12} {:>6}"
    with service() as address:
        host, port = address.removeprefix("http://").split(":")
        connections = [Connection(*await asyncio.open_connection(host, int(port))) for _ in range(CALLS)]
        async with httpx2.AsyncClient(base_url=address) as client:
            print(row.format("64 calls of", "serial ms", "together ms", "ratio", "mean batch", "batches > 1", "same"))
            different = []
            for name, unsent in calls().items():
                requests = [to_bytes(call) for call in unsent]
                await asyncio.gather(*map(Connection.send, connections, requests))
                before = await batches(client)
                apart, together, alike = await measure(connections, requests)
                different += [] if alike else [name]
                jobs, count, several = np.subtract(await batches(client), before)
                single = ROUNDS * CALLS  # jobs of the sequential calls
                print(
                    row.format(
                        name,
                        f"{statistics.median(apart) * 1e3:.1f}",
                        f"{statistics.median(together) * 1e3:.1f}",
                        f"{statistics.median(a / b for a, b in zip(apart, together, strict=True)):.2f}",
                        f"{(jobs - single) / max(count - single, 1):.1f}",
                        f"{several:.0f}",
                        "yes" if alike else "NO",
                    ),
                    flush=True,
                )
    if different:
        raise SystemExit(f"the bytes in a batch differ from the bytes alone: {', '.join(different)}")


if __name__ == "__main__":
    uvloop.run(main())
