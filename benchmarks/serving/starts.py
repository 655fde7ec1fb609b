"""Seconds from the start of a server to its first picture, and to its readiness for everything."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict

from benchmarks.serving.arena import Arena
from benchmarks.serving.contenders import CONTENDERS, FIRST_SEED, ONE_PROCESS, OURS, READY, is_ours, running
from benchmarks.serving.processes import NotStarted, answers
from benchmarks.serving.tables import grid

FIRST = "the first start on a machine"


def table(arena: Arena) -> str:
    """Starts with compiled code present, and the first start of Latentserve, which compiles."""
    seconds: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for round_ in range(arena.rounds):
        for name in arena.rotated(round_):
            try:
                found = _start(name, {})
            except NotStarted as error:
                arena.failed[name] = str(error)
            else:
                seconds[name].append(found)
    if arena.rounds > 1:
        for name in (name for name in arena.names if name in (OURS, ONE_PROCESS)):
            with tempfile.TemporaryDirectory() as empty:
                seconds[f"{name}, {FIRST}"].append(_start(name, {"NUMBA_CACHE_DIR": empty}))
    lines = [["start", "first PNG s", "ready s"]]
    for name, starts in seconds.items():
        lines.append([name, *(f"{statistics.median(column):.2f}" for column in zip(*starts, strict=True))])
    return grid(lines)


def _start(name: str, variables: dict[str, str]) -> tuple[float, float]:
    start = time.perf_counter()
    picture = next(CONTENDERS[name].seeds(FIRST_SEED).stream(0))
    with running(name, variables=variables, probe=picture) as server:
        while is_ours(name) and not answers(server.port, READY):
            if server.process.poll() is not None or time.perf_counter() > start + CONTENDERS[name].patience:
                raise NotStarted("not ready in time")
            time.sleep(0.01)
        return server.start_seconds, max(server.start_seconds, time.perf_counter() - start)
