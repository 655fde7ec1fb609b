"""Random mixtures of requests: each answer has the bytes that the same request gets alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import NamedTuple

import uvloop

from benchmarks.serving.arena import Arena
from benchmarks.serving.calls import calls
from benchmarks.serving.connection import Answer, Call, Caller
from benchmarks.serving.contenders import ONE_PROCESS, is_ours

MIXTURES, QUICK_MIXTURES = 10_000, 300
CONNECTIONS = 64
# A mixture has up to this many requests at once.
LARGEST = 32
# Share of the mixtures before which a connection is opened anew, and so may reach another process.
RENEWED = 0.3


class Outcome(NamedTuple):
    """How many answers were compared, and the requests whose answers differed."""

    mixtures: int
    answers: int
    different: list[str]


def pool() -> list[Call]:
    """Requests to every endpoint that computes, and to each lane of the digits."""
    queries = [
        "generate?seed={}&scores=true&format=json",
        "generate?seed={}&truncation=0.5",
        "generate?seed={}&count=3&format=npy",
        "generate?seed={}&count=70&format=npy",
        "generate?seed={}&digit=3",
        "generate?seed={}&format=webp",
        "interpolate?seeds={},5&frames=3",
    ]
    pictures = [Call("GET", f"/gan/{query.format(seed)}") for query in queries for seed in range(4)]
    return [*pictures, *(call for some in calls().values() for call in some)]


def essence(answer: Answer) -> tuple[int, bytes, bytes, bytes]:
    """What must not depend on the batch or the process: all but the names and times of the request."""
    return answer.status, answer.body, answer.header(b"etag"), answer.header(b"content-type")


async def alone(port: int, requests: Sequence[Call]) -> list[tuple[int, bytes, bytes, bytes]]:
    """The answers to all requests, one after another over one connection.

    Raises ValueError if an answer has another status than 200.
    """
    caller = Caller(port)
    answers = [await caller(request) for request in requests]
    caller.close()
    for request, answer in zip(requests, answers, strict=True):
        if answer.status != 200:
            raise ValueError(f"{request.method} {request.path}: {answer.status} {answer.body!r}")
    return [essence(answer) for answer in answers]


async def mixed(
    port: int,
    requests: Sequence[Call],
    expected: Sequence[tuple[int, bytes, bytes, bytes]],
    mixtures: int,
    seed: int,
) -> Outcome:
    """Send random mixtures, all requests of one at once, each over another connection, and compare the answers."""
    rng = random.Random(seed)  # noqa: S311
    callers = [Caller(port) for _ in range(CONNECTIONS)]
    different: list[str] = []
    total = 0
    for _ in range(mixtures):
        if rng.random() < RENEWED:
            rng.choice(callers).close()
        size = int(LARGEST ** rng.random())
        chosen = [rng.randrange(len(requests)) for _ in range(size)]
        answers = await asyncio.gather(
            *(caller(requests[i]) for caller, i in zip(rng.sample(callers, size), chosen, strict=True))
        )
        total += size
        different += [
            f"{requests[i].method} {requests[i].path}"
            for i, answer in zip(chosen, answers, strict=True)
            if essence(answer) != expected[i]
        ]
    for caller in callers:
        caller.close()
    return Outcome(mixtures, total, different)


def table(arena: Arena) -> str:
    """Ask one process for each answer alone, then send mixtures to services of one and of several processes.

    Raises RuntimeError if an answer differs.
    """
    requests = pool()
    with arena.server(ONE_PROCESS) as server:
        expected = uvloop.run(alone(server.port, requests))
    lines = []
    for name in (name for name in arena.names if is_ours(name)):
        with arena.server(name) as server:
            mixtures = QUICK_MIXTURES if arena.rounds == 1 else MIXTURES
            outcome = uvloop.run(mixed(server.port, requests, expected, mixtures, seed=0))
        if outcome.different:
            raise RuntimeError(f"{len(outcome.different)} answers differ, such as that to {outcome.different[0]}")
        lines.append(
            f"{name}: {outcome.answers:,} answers in {outcome.mixtures:,} random mixtures of {len(requests)} requests "
            "have the bytes of the same request alone"
        )
    return "\n".join(lines)
