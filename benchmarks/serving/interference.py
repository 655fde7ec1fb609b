"""Latency of small requests while large bodies of JSON stream in on other connections."""

from __future__ import annotations

import asyncio
import functools
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import uvloop

from benchmarks.serving.arena import Arena, first_seed, warm
from benchmarks.serving.connection import Call, to_bytes
from benchmarks.serving.contenders import CONTENDERS, is_ours
from benchmarks.serving.figures import Sample, together
from benchmarks.serving.load import WARM_UP, Bodies, Load, Requests, drive, run
from benchmarks.serving.tables import claim, grid, latency, milliseconds

SENDERS = 2
# A large request may take a second or more.
SECONDS = 10.0
# Of each kind of small request, in an open loop.
RATE, CONNECTIONS = 50.0, 8
LIVEZ = Bodies((to_bytes(Call("GET", "/livez")),))


class Large(NamedTuple):
    """Large requests, built in the process that sends them."""

    kind: str

    def stream(self, client: int) -> Iterator[bytes]:
        """Endless requests of one client."""
        return Bodies((_body(self.kind),)).stream(client)


@functools.cache
def _body(kind: str) -> bytes:
    rng = np.random.default_rng(0)
    if kind == "clouds":
        source = rng.normal(size=(100_000, 3))
        # The service refuses clouds of different dimensions once it has read them. A registration would take seconds,
        # in which no further body arrives.
        return to_bytes(Call("POST", "/em/register", {"source": source.tolist(), "target": source[:, :2].tolist()}))
    mu, log_variance, grad = rng.normal(size=(3, 1000, 1000))
    fields = {"mu": mu.tolist(), "log_variance": log_variance.tolist(), "grad_z": grad.tolist(), "seed": 1}
    return to_bytes(Call("POST", "/vae/reparam-grad", fields))


class Kind(NamedTuple):
    """What is sent beside the small requests, and the status of its answers."""

    name: str
    status: int = 200


KINDS = {
    "alone": Kind("nothing else"),
    "clouds": Kind("two clouds of 100,000 points", 422),
    "gradients": Kind("1,000 x 1,000 reparam-grads"),
}


def table(arena: Arena) -> str:
    """Small requests alone and beside each kind of large ones, which two connections send without a pause."""
    samples: dict[tuple[str, str, str], list[Sample]] = defaultdict(list)
    large: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    names = [name for name in arena.names if is_ours(name)]
    seconds = max(SECONDS, arena.seconds)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        for round_ in range(arena.rounds):
            for name in arena.rotated(round_, names):
                with arena.server(name) as server:
                    warm(server, name)
                    for kind in KINDS:
                        sending = None
                        if kind != "alone":
                            pool.submit(_body, kind).result()
                            load = Load(Large(kind), SENDERS, seconds + 1, status=KINDS[kind].status)
                            sending = pool.submit(run, server.port, load)
                        livez, picture = uvloop.run(_probe(server.port, name, seconds))
                        samples[name, kind, "/livez"].append(livez)
                        samples[name, kind, "PNG"].append(picture)
                        if sending is not None:
                            large[name, kind].append(sending.result())
    lines = [["beside", "large/s", "errors", "small", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "unanswered"]]
    claims = []
    for (name, kind, small), rounds in samples.items():
        beside = large[name, kind]
        rate = f"{sum(one.rate for one in beside) / len(beside):.1f}" if beside else "-"
        errors = sum(sample.errors for sample in [*rounds, *beside])
        lost = sum(sample.unanswered for sample in rounds)
        every = [together(rounds)]  # the worst of all rounds, not the median of the worst
        late = [milliseconds(latency(every, share)) for share in (0.5, 0.99, 0.999, 1.0)]
        if kind != "alone":
            claims.append(claim(f"{name}: {small} beside {kind}: p99 in ms", 1e3 * latency(every, 0.99), most=20))
            claims.append(claim(f"{name}: {small} beside {kind}: worst in ms", 1e3 * latency(every, 1.0), most=50))
        lines.append([f"{name}: {KINDS[kind].name}", rate, str(errors), small, *late, str(lost)])
    return "\n".join([grid(lines), *claims])


async def _probe(port: int, name: str, seconds: float) -> tuple[Sample, Sample]:
    await asyncio.sleep(WARM_UP)
    small: list[Requests] = [LIVEZ, CONTENDERS[name].seeds(first_seed())]
    loads = [Load(requests, CONNECTIONS, seconds, RATE, poisson_seed=seed) for seed, requests in enumerate(small)]
    livez, picture = await asyncio.gather(*(drive(port, load) for load in loads))
    return livez, picture
