"""More requests than the service can answer: a full queue, and arrivals at multiples of the capacity."""

from __future__ import annotations

import asyncio
import os
import time

import numpy as np
import uvloop

from benchmarks.faults.judging import Client, Known, known_calls, learn
from benchmarks.faults.ledger import Fate, Ledger
from benchmarks.faults.open_loop import Load, OpenLoop
from benchmarks.faults.resources import resources
from benchmarks.faults.running import service
from benchmarks.faults.scenarios.outcome import Outcome
from benchmarks.serving.connection import Call
from benchmarks.serving.processes import Server
from benchmarks.serving.tables import claim, grid, milliseconds

FACTORS = (1, 2, 5, 10)
DEADLINE = 1.0
CLIENTS = 32
# Of one request, which then takes about 13 ms of a core.
ITERATIONS = 400
# The least goodput under any overload, as a share of its peak. The generator takes about 50 us for a request that is
# refused, of the processors that it shares with the service. Goodput is therefore counted for each processor that it
# leaves.
LEAST_OF_PEAK = 0.9


def _work(iterations: int, count: int) -> list[Call]:
    """Registrations of 100 x 100 points, which perform all their iterations."""
    rng = np.random.default_rng(0)
    calls = []
    for _ in range(count):
        source = rng.normal(size=(100, 2))
        rules = {"sigma": 0.5, "init": "identity", "tolerance": 0, "max_iterations": iterations}
        calls.append(
            Call("POST", "/em/register", {"source": source.tolist(), "target": (source + 0.1).tolist(), **rules})
        )
    return calls


def full_queue(quick: bool) -> Outcome:
    """A queue of four jobs: what does not fit is refused with Retry-After, and what was taken is answered."""
    ledger = Ledger()
    with service(1, queue_items=4, batch_items=1) as server:
        uvloop.run(_full(server.port, ledger, 2 if quick else 10))
    answered, refused = ledger.fates[Fate.ANSWERED], ledger.fates[Fate.REFUSED]
    ledger.claim(answered > 0 and refused > 0, f"some are answered and some refused: {answered} and {refused}")
    return Outcome(ledger, [])


async def _full(port: int, ledger: Ledger, rounds: int) -> None:
    known = await learn(port, known_calls(_work(1000, 8)))
    clients = [Client(port, ledger) for _ in range(40)]
    for _ in range(rounds):
        await asyncio.gather(*(client.ask(known[place % len(known)]) for place, client in enumerate(clients)))
    for client in clients:
        client.close()
    ledger.close()


def with_deadlines(quick: bool) -> Outcome:
    """Arrivals at 1 to 10 times the capacity, with deadlines: goodput, and the latency of what is answered."""
    return _overload(quick, DEADLINE)


def without_deadlines(quick: bool) -> Outcome:
    """Arrivals at 1 to 10 times the capacity, without deadlines."""
    return _overload(quick, None)


def _overload(quick: bool, deadline: float | None) -> Outcome:
    ledger = Ledger()
    with service(2) as server:
        loads, capacity, memory = uvloop.run(_loads(server, ledger, 3.0 if quick else 10.0, deadline))
    ledger.close()
    titles = ["", "offered/s", "answered/s", "refused/s", "too late/s", "p50 ms", "p99 ms", "refusals p99 ms", "MB"]
    lines = [[*titles, "generator"]]
    for factor, load, size in zip(FACTORS, loads, memory, strict=True):
        late = [milliseconds(load.latency(share)) for share in (0.5, 0.99)]
        rates = [f"{load.rate:,.0f}", f"{load.good(deadline):,.0f}", f"{len(load.refusals) / load.seconds:,.0f}"]
        rates.append(f"{load.too_late / load.seconds:,.0f}")
        rest = [milliseconds(load.refusal(0.99)), f"{size:.0f}", f"{load.generator:.0%} of a core"]
        lines.append([f"{factor} x {capacity:,.0f}", *rates, *late, *rest])
    cores = len(os.sched_getaffinity(0))
    good = [load.good(deadline) / (cores - load.generator) for load in loads]
    least = min(good[1:]) / max(good) if max(good) else 0.0
    claims = [claim("least goodput in overload for each core left, of its peak", least, least=LEAST_OF_PEAK)]
    if deadline:
        worst = (
            max(load.latency(0.99) for load in loads if load.latencies) if any(load.latencies for load in loads) else 0
        )
        claims.append(claim("p99 of what is answered, of the deadline", worst / deadline, most=1))
    return Outcome(ledger, [*grid(lines).splitlines(), *claims])


async def _loads(
    server: Server, ledger: Ledger, seconds: float, deadline: float | None
) -> tuple[list[Load], float, list[float]]:
    known = await learn(server.port, known_calls(_work(ITERATIONS, 16)))
    capacity = await _capacity(server.port, known, ledger, seconds)
    loop = OpenLoop(
        server.port, known, ledger, b"" if deadline is None else f"x-timeout-seconds: {deadline}\r\n".encode()
    )
    loads, memory = [], []
    for factor in FACTORS:
        loads.append(await loop.run(factor * capacity, seconds))
        memory.append((await asyncio.to_thread(resources, server.process.pid)).pss)
    loop.close()
    return loads, capacity, memory


async def _capacity(port: int, known: list[Known], ledger: Ledger, seconds: float) -> float:
    """Answers a second in a closed loop."""
    until = time.monotonic() + seconds
    before = ledger.fates[Fate.ANSWERED]

    async def ask(place: int) -> None:
        client = Client(port, ledger)
        while time.monotonic() < until:
            await client.ask(known[place % len(known)])
            place += 1
        client.close()

    await asyncio.gather(*map(ask, range(CLIENTS)))
    return (ledger.fates[Fate.ANSWERED] - before) / seconds
