"""A log that cannot be written, a clock that jumps, and little memory."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np
import uvloop

from benchmarks.faults.judging import Client, known_calls, learn
from benchmarks.faults.launcher import CLOCK, GROUP
from benchmarks.faults.ledger import Fate, Ledger
from benchmarks.faults.running import service
from benchmarks.faults.scenarios.outcome import TERM_SECONDS, Outcome, Skipped, small
from benchmarks.faults.traffic import Traffic
from benchmarks.serving.connection import Call
from benchmarks.serving.processes import Server

# An access log line has about 200 bytes, and a pipe holds 64 KiB: this many requests fill one several times.
LINES = 2000
JUMPS = (3600.0, -3600.0, 86400.0 * 400, -86400.0 * 400, 0.0)
GROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
MEMORY = 2 << 30


def logs(quick: bool) -> Outcome:
    """stderr on a full or hanging disk, to a broken or stalled pipe, and closed: only log lines are lost."""
    ledger = Ledger()
    lines = []
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        lines.append(_logged("full disk", ledger, quick, full))
    with tempfile.TemporaryFile() as file:
        lines.append(_logged("disk that hangs", ledger, quick, file, "hung"))
    lines.append(_logged("closed stderr", ledger, quick, None, "silent"))
    for name, keep in (("broken pipe", False), ("stalled pipe", True)):
        reading, writing = os.pipe()
        try:
            with os.fdopen(writing, "wb") as pipe:
                if not keep:
                    os.close(reading)
                lines.append(_logged(name, ledger, quick, pipe))
        finally:
            if keep:
                os.close(reading)
    ledger.close()
    return Outcome(ledger, lines)


def _logged(name: str, ledger: Ledger, quick: bool, stderr: IO[bytes] | None, hook: str = "") -> str:
    with service(2, hook=hook, stderr=stderr, drain_seconds=1) as server:
        uvloop.run(_send(server.port, ledger, LINES // 4 if quick else LINES))
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        status: int | None = None
        with suppress(subprocess.TimeoutExpired):
            status = server.process.wait(TERM_SECONDS)
        seconds = time.monotonic() - start
    ledger.claim(status == 0, f"{name}: SIGTERM ends the service with status 0 within {TERM_SECONDS:g} s: {status}")
    return f"{name}: ended with status {status}, {seconds:.1f} s after SIGTERM"


async def _send(port: int, ledger: Ledger, count: int) -> None:
    """Some requests, not only good ones, because errors have log lines of their own."""
    known = await learn(
        port, [("livez", b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"), *(one[:2] for one in await small(port))]
    )
    quick = [one for one in known if one.expected[0] != 200 or "generate" in one.name or "livez" in one.name]

    async def ask(place: int) -> None:
        client = Client(port, ledger, patience=20)
        for number in range(count // 8):
            if await client.ask(quick[(place + number) % len(quick)]) is Fate.LOST:
                break  # the others would be lost too, each after the patience of its client
        client.close()

    await asyncio.gather(*map(ask, range(8)))


def clock(quick: bool) -> Outcome:
    """The time of day jumps by an hour and by a year, forwards and backwards, under load."""
    ledger = Ledger()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shift"
        path.write_text("0")
        os.environ[CLOCK] = str(path)
        try:
            with service(2, hook="clock") as server:
                uvloop.run(_jump(server, ledger, path, 1 if quick else 3))
        finally:
            del os.environ[CLOCK]
    return Outcome(ledger, [f"jumps by {', '.join(f'{jump:+,.0f} s' for jump in JUMPS)}"])


async def _jump(server: Server, ledger: Ledger, path: Path, seconds: float) -> None:
    traffic = Traffic(server.port, await small(server.port), ledger, 6, 0.02, is_polite=True)
    traffic.start()
    for jump in JUMPS:
        written = path.with_suffix(".new")
        written.write_text(str(jump))
        written.rename(path)
        await asyncio.sleep(seconds)
    await traffic.stop()
    ledger.close()
    ledger.claim(server.process.poll() is None, "the service runs on")


@contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """A control group with this limit of memory in bytes. Raises Skipped if this process may make none."""
    root = next((found for found in GROUPS if (found / "cgroup.procs").exists()), None)
    if root is None:
        raise Skipped("there are no control groups of memory")
    folder = root / f"latentserve-faults-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        raise Skipped(f"a control group cannot be made: {error}") from None
    try:
        for name in ("memory.limit_in_bytes", "memory.max"):
            if (folder / name).exists():
                (folder / name).write_text(str(limit))
                break
        else:
            raise Skipped("control groups here do not limit memory")
        yield folder
    finally:
        for _ in range(100):  # its processes have been killed, and take a moment to leave
            with suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.05)


def memory(quick: bool) -> Outcome:
    """Large bodies in a control group of 2 GiB: what does not fit is refused, and nothing is killed."""
    ledger = Ledger()
    with memory_group(MEMORY) as folder:
        os.environ[GROUP] = str(folder)
        try:
            # Settings for little memory, as docs/operations.md advises where clients are not trusted.
            with service(0, hook="group", max_elements=2**20, max_inflight_bytes=64 << 20) as server:
                uvloop.run(_press(server, ledger, 2 if quick else 6))
                peak = _peak(folder)
        finally:
            del os.environ[GROUP]
    return Outcome(ledger, [f"limit {MEMORY / 2**20:,.0f} MiB, peak {peak / 2**20:,.0f} MiB"])


def _peak(folder: Path) -> int:
    for name in ("memory.max_usage_in_bytes", "memory.peak"):
        with suppress(OSError):
            return int((folder / name).read_text())
    return 0


async def _press(server: Server, ledger: Ledger, rounds: int) -> None:
    rng = np.random.default_rng(0)
    mu, log_variance, grad = rng.normal(size=(3, 300, 1000)).tolist()
    large = {"mu": mu, "log_variance": log_variance, "grad_z": grad, "seed": 1}
    short = await small(server.port)
    (big,) = await learn(server.port, known_calls([Call("POST", "/vae/reparam-grad", large)]))
    traffic = Traffic(server.port, short, ledger, 4, 0.02, is_polite=True)
    traffic.start()
    clients = [Client(server.port, ledger) for _ in range(6)]
    for _ in range(rounds):
        await asyncio.gather(*(client.ask(big) for client in clients))
    await traffic.stop()
    for client in clients:
        client.close()
    ledger.close()
