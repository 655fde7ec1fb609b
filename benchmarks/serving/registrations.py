"""Registrations of 100 points in 2-D: processor time of a request beside that of the lanes, which compute.

The engine is also measured alone, in a process without a server, on the same problems, as many at once on average.
"""

from __future__ import annotations

import io
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
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


def engine_seconds(size: int, seconds: float) -> float:
    """Processor time of the engine for one registration in batches of `size`."""
    source, target = clouds()
    spent, count = 0.0, 0
    until = time.perf_counter() + seconds
    while count == 0 or time.perf_counter() < until:
        places = [(count + place) % PROBLEMS for place in range(size)]
        problems = [
            problem(RegisterRequest.model_validate({"source": source[i], "target": target[i], "sigma": SIGMA}))
            for i in places
        ]
        plans = [plan(check(one)) for one in problems]
        start = time.thread_time()
        register_plans(plans)
        spent += time.thread_time() - start
        count += size
    return spent / count


class Kind(NamedTuple):
    """A way to send registrations."""

    name: str
    requests: Bodies
    registrations: int  # of one request
    connections: int
    most: float  # maximum processor time of a registration beside the lanes', in µs


class Measurement(NamedTuple):
    """One load, and the engine alone after it."""

    sample: Sample
    lane_seconds: float
    together: int
    engine_seconds: float  # of one registration


def overhead(arena: Arena) -> str:
    """Processor time of a registration by HTTP: the whole, the lanes', the rest, and the engine's alone."""
    kinds = [
        Kind("JSON", single_requests(), 1, 64, 250),
        Kind(f"JSON, batches of {BATCH}", json_batches(), BATCH, 4, 250),
        Kind(f"npz, batches of {BATCH}", npz_batches(), BATCH, 4, 25),
    ]
    found: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
    refused: dict[str, str] = {}
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
                        run(server.port, Load(kind.requests, kind.connections, 1.0))
                        for _ in range(TURNS):
                            sample, lanes, size = _load(server, kind, arena.seconds / TURNS)
                            alone = process.submit(engine_seconds, size, arena.seconds / TURNS).result()
                            found[name, kind.name].append(Measurement(sample, lanes, size, alone))
    head = ["registrations", "a second", "p50 ms", "p99 ms", "together"]
    lines = [[*head, "µs in all", "lanes µs", "rest µs", "engine alone µs", "client µs"]]
    claims = []
    for name in names:
        for kind in kinds:
            if kind.name not in refused:
                cells, rest = _row(found[name, kind.name], kind)
                lines.append([f"{name}: {kind.name}", *cells])
                claims.append(claim(f"{name}: {kind.name}: µs beside the lanes", rest * 1e6, most=kind.most))
    notes = [f"{name}: not measured, because the service answers {reason}" for name, reason in refused.items()]
    return "\n".join([grid(lines), *claims, *notes])


def _load(server: Server, kind: Kind, seconds: float) -> tuple[Sample, float, int]:
    """A load, the processor time of the lanes meanwhile, and how many registrations were computed together."""
    batches_before, lanes_before = uvloop.run(_batches(server.port)), server.lane_seconds()
    sample = measured(server, Load(kind.requests, kind.connections, seconds))
    lanes = server.lane_seconds() - lanes_before
    # One job may have many registrations of a request, so jobs are not counted.
    _, batches = np.subtract(uvloop.run(_batches(server.port)), batches_before)
    return sample, lanes, together(sample.requests * kind.registrations / batches)


def _row(measurements: Sequence[Measurement], kind: Kind) -> tuple[list[str], float]:
    """The cells of a kind's row, and the seconds of a registration beside the lanes'."""

    def each(seconds: Callable[[Measurement], float]) -> float:
        return statistics.median(
            seconds(one) / max(one.sample.requests, 1) / kind.registrations for one in measurements
        )

    samples = [one.sample for one in measurements]
    rest = each(lambda one: one.sample.server_seconds - one.lane_seconds)
    times = [
        each(lambda one: one.sample.server_seconds),
        each(lambda one: one.lane_seconds),
        rest,
        statistics.median(one.engine_seconds for one in measurements),
        each(lambda one: one.sample.client_seconds),
    ]
    return [
        f"{kind.registrations * median(samples, lambda sample: sample.rate):,.0f}",
        *(milliseconds(latency(samples, share)) for share in (0.5, 0.99)),
        f"{statistics.median(one.together for one in measurements):.0f}",
        *map(microseconds, times),
    ], rest


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
