"""Registrations of 100 points in 2-D: processor time of a request beside that of the engine alone.

The engine's time is measured in a process without a server, on the same problems, as many at once on average.
"""

from __future__ import annotations

import io
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import orjson
import uvloop
from numpy.typing import NDArray

from benchmarks.serving.arena import Arena, measured
from benchmarks.serving.connection import Answer, Call, Caller, to_bytes
from benchmarks.serving.contenders import is_ours
from benchmarks.serving.figures import Sample
from benchmarks.serving.load import Bodies, Load, run
from benchmarks.serving.processes import Server
from benchmarks.serving.tables import claim, grid, latency, median, microseconds, milliseconds
from benchmarks.serving.together import batches
from service.em.checks import check
from service.em.engine import most_together
from service.em.plan import plan
from service.em.problem import Problem
from service.em.register import register_plans
from service.em.schemas.registration import RegisterRequest
from service.em.wire import problem
from service.runtime.limits import Limits
from service.settings import Settings

PROBLEMS, POINTS, SIGMA = 1024, 100, 0.1
BATCH = 256
# Loads and measurements of the engine take turns in a round, because their difference is small beside both.
TURNS = 3
NPZ = "application/x-npz"


class Clouds(NamedTuple):
    """Clouds (PROBLEMS, POINTS, 2), and the same moved, with noise."""

    source: NDArray[np.float64]
    target: NDArray[np.float64]


def clouds() -> Clouds:
    """The problems."""
    rng = np.random.default_rng(0)
    source = rng.normal(size=(PROBLEMS, POINTS, 2))
    return Clouds(source, source + rng.normal(size=(PROBLEMS, 1, 2)) + 0.01 * rng.normal(size=source.shape))


def single_requests() -> Bodies:
    """One request in JSON for each problem."""
    return Bodies(
        tuple(
            to_bytes(Call("POST", "/em/register", {"source": p.tolist(), "target": q.tolist(), "sigma": SIGMA}))
            for p, q in zip(*clouds(), strict=True)
        )
    )


def json_batches() -> Bodies:
    """Requests of BATCH problems in JSON."""
    source, target = clouds()
    problems = [
        {"source": p.tolist(), "target": q.tolist(), "sigma": SIGMA} for p, q in zip(source, target, strict=True)
    ]
    return Bodies(
        tuple(
            to_bytes(Call("POST", "/em/register/batch", {"problems": problems[first : first + BATCH]}))
            for first in range(0, PROBLEMS, BATCH)
        )
    )


def npz_batches() -> Bodies:
    """Requests of BATCH problems in npz, whose answers are npz too."""
    source, target = clouds()
    offsets = np.arange(BATCH + 1, dtype=np.int64) * POINTS
    requests = []
    for first in range(0, PROBLEMS, BATCH):
        file = io.BytesIO()
        np.savez(
            file,
            source=source[first : first + BATCH].reshape(-1, 2),
            source_offsets=offsets,
            target=target[first : first + BATCH].reshape(-1, 2),
            target_offsets=offsets,
            sigma=np.array(SIGMA),
        )
        call = Call("POST", "/em/register/batch", file.getvalue(), NPZ)
        requests.append(to_bytes(call).replace(b"\r\n", f"\r\naccept: {NPZ}\r\n".encode(), 1))
    return Bodies(tuple(requests))


def together(size: float) -> int:
    """The number of registrations that the engine computes together, where a batch of jobs has `size` of them."""
    source, target = clouds()
    settings = Settings()
    limits = Limits(settings.batch_items, settings.batch_pairs, settings.queue_items, math.inf)
    most = most_together(plan(check(Problem(source[0], target[0], SIGMA))), limits)
    return max(1, round(size / math.ceil(size / most)))


def engine_seconds(size: int, seconds: float) -> tuple[float, float]:
    """Processor time of one registration in batches of `size`: of the engine, and of the checks and the plan before."""
    source, target = clouds()
    spent, checked, count = 0.0, 0.0, 0
    until = time.perf_counter() + seconds
    while count == 0 or time.perf_counter() < until:
        places = [(count + place) % PROBLEMS for place in range(size)]
        problems = [
            problem(RegisterRequest.model_validate({"source": source[i], "target": target[i], "sigma": SIGMA}))
            for i in places
        ]
        start = time.thread_time()
        plans = [plan(check(one)) for one in problems]
        middle = time.thread_time()
        register_plans(plans)
        spent += time.thread_time() - middle
        checked += middle - start
        count += size
    return spent / count, checked / count


class Kind(NamedTuple):
    """A way to send registrations."""

    name: str
    requests: Bodies
    registrations: int  # of one request
    connections: int
    most: float  # maximum processor time of a registration beside the engine's, in µs


def overhead(arena: Arena) -> str:
    """Processor time of a registration by HTTP: the whole, the engine's, and the rest."""
    kinds = [
        Kind("JSON", single_requests(), 1, 64, 250),
        Kind(f"JSON, batches of {BATCH}", json_batches(), BATCH, 4, 250),
        Kind(f"npz, batches of {BATCH}", npz_batches(), BATCH, 4, 25),
    ]
    samples: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    sizes: dict[tuple[str, str], list[int]] = defaultdict(list)
    refused: dict[str, str] = {}
    engine: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    names = [name for name in arena.names if is_ours(name)]
    # A process of its own, in which the libraries start with one thread.
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        process.submit(engine_seconds, BATCH, 0).result()  # compiles, or loads compiled code
        for round_ in range(arena.rounds):
            for name in arena.rotated(round_, names):
                with arena.server(name) as server:
                    for kind in kinds:
                        if kind.name in refused or (problem := _problem(server, kind.requests.requests[0])):
                            refused.setdefault(kind.name, problem)
                            continue
                        key = name, kind.name
                        run(server.port, Load(kind.requests, kind.connections, 1.0))
                        for _ in range(TURNS):
                            before = uvloop.run(_batches(server.port))
                            load = Load(kind.requests, kind.connections, arena.seconds / TURNS)
                            samples[key].append(measured(server, load))
                            _, batches = np.subtract(uvloop.run(_batches(server.port)), before)
                            # One job may have many registrations of a request, so jobs are not counted.
                            size = together(samples[key][-1].requests * kind.registrations / batches)
                            sizes[key].append(size)
                            seconds = process.submit(engine_seconds, size, arena.seconds / TURNS)
                            engine[key].append(seconds.result())
    head = ["registrations", "a second", "p50 ms", "p99 ms", "together"]
    lines = [[*head, "µs in all", "engine µs", "rest µs", "of it plan µs", "client µs"]]
    claims = []
    for name in names:
        for kind in kinds:
            if kind.name in refused:
                continue
            rounds, key = samples[name, kind.name], (name, kind.name)
            each = _per_registration(rounds, kind.registrations)
            alone, checks = (statistics.median(column) for column in zip(*engine[key], strict=True))
            rest = statistics.median(
                _per_registration([sample], kind.registrations) - parts[0]
                for sample, parts in zip(rounds, engine[key], strict=True)
            )
            rate = kind.registrations * median(rounds, lambda sample: sample.rate)
            late = [milliseconds(latency(rounds, share)) for share in (0.5, 0.99)]
            client = median(rounds, lambda sample: sample.client_seconds / max(sample.requests, 1)) / kind.registrations
            times = [microseconds(value) for value in (each, alone, rest, checks, client)]
            cells = [f"{rate:,.0f}", *late, f"{statistics.median(sizes[key]):.0f}", *times]
            lines.append([f"{name}: {kind.name}", *cells])
            claims.append(claim(f"{name}: {kind.name}: µs beside the engine", rest * 1e6, most=kind.most))
    notes = [f"{name}: not measured, because the service answers {reason}" for name, reason in refused.items()]
    return "\n".join([grid(lines), *claims, *notes])


def _per_registration(samples: Sequence[Sample], registrations: int) -> float:
    return median(samples, lambda sample: sample.server_seconds / max(sample.requests, 1)) / registrations


def _problem(server: Server, request: bytes) -> str:
    """Why the service refuses a request; empty if it does not."""

    async def ask() -> Answer:
        caller = Caller(server.port)
        try:
            return await caller.raw(request)
        finally:
            caller.close()

    answer = uvloop.run(ask())
    return "" if answer.status == 200 else f"{answer.status} {orjson.loads(answer.body).get('detail', '')}"


async def _batches(port: int) -> tuple[float, float]:
    caller = Caller(port)
    try:
        return (await batches(caller, engine="em"))[:2]
    finally:
        caller.close()
