"""One PNG by a seed that was never asked before: closed loops, open loops, memory, and images as npy."""

from __future__ import annotations

import os
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence

from benchmarks.serving.arena import Arena, first_seed, measured, progress, warm
from benchmarks.serving.contenders import (
    BARE,
    CONTENDERS,
    ONE_PROCESS,
    OURS,
    TWO_PROCESSES,
    Setting,
    describe,
    has_processes,
    is_ours,
    running,
)
from benchmarks.serving.figures import GOOD_SECONDS, Sample
from benchmarks.serving.load import OPEN_CONNECTIONS, Load, Seeds
from benchmarks.serving.processes import NotStarted
from benchmarks.serving.tables import COLUMNS, claim, closed_cells, grid, latency, median, microseconds, milliseconds

CONNECTIONS = (64, 1, 512)
RATES = (250, 500, 1000, 2000, 3000, 4000, 6000)
# An open loop at the next rate is pointless if less than this share was answered in time.
HOPELESS = 0.5
LEAST_SHARE = 0.99

Samples = dict[tuple[str, float], list[Sample]]


def tune(arena: Arena) -> str:
    """Try all settings of each peer with 64 connections and with one, and keep the best of each for later scenarios."""
    lines = [["settings", "64: req/s", "p99 ms", "server µs", "1: req/s", "p99 ms", "server µs"]]
    for name in arena.rotated(0):
        contender = CONTENDERS[name]
        rates: dict[tuple[Setting, bool], float] = {}
        for setting in contender.settings if contender.peer else ():
            try:
                with running(name, setting) as server:
                    warm(server, name)
                    cells = [f"{name}: {describe(name, setting)}"]
                    for connections in (64, 1):
                        sample = measured(server, Load(contender.seeds(first_seed()), connections, arena.seconds))
                        rates[setting, connections == 1] = 0 if sample.errors else sample.rate
                        cells += [f"{sample.rate:,.0f}", milliseconds(sample.latency(0.99))]
                        cells += [microseconds(sample.server_seconds / max(sample.requests, 1))]
                    lines.append(cells)
                    progress(*cells)
            except NotStarted as error:
                progress(name, describe(name, setting), "did not start:", str(error))
        for alone in (True, False) if rates else ():
            arena.tuned[name, alone] = max(contender.settings, key=lambda one: rates.get((one, alone), 0))
    return grid(lines)


def closed(arena: Arena) -> str:
    """Closed loops with 64, 1 and 512 connections, and the memory of each contender."""
    samples: Samples = defaultdict(list)
    memory: dict[str, list[list[float]]] = defaultdict(list)
    for round_ in range(arena.rounds):
        for name in arena.rotated(round_):
            for setting in dict.fromkeys(arena.setting(name, count) for count in CONNECTIONS):
                counts = [count for count in CONNECTIONS if arena.setting(name, count) == setting]
                try:
                    with arena.server(name, setting) as server:
                        warm(server, name)
                        for count in counts:
                            load = Load(CONTENDERS[name].seeds(first_seed()), count, arena.seconds)
                            samples[name, count].append(measured(server, load, min(arena.clients, count)))
                            progress(name, *closed_cells(samples[name, count][-1:]))
                        if 64 in counts:
                            memory[name].append(server.memory())
                except NotStarted:
                    break
    tables = [_closed_table(arena, samples, count) for count in CONNECTIONS]
    lines = [["memory after the load", "processes", "MB", "MB each"]]
    for name, sizes in memory.items():
        last = sizes[-1]
        each = ", ".join(f"{size:.0f}" for size in last[:6]) + ", ..." * (len(last) > 6)
        lines.append([name, str(len(last)), f"{sum(last):.0f}", each])
    return "\n\n".join([*tables, grid(lines), "\n".join(_claims(arena, samples))])


def _claims(arena: Arena, samples: Samples) -> Iterable[str]:
    """The requirements that were measured: the figure, the bound, and whether the bound holds."""
    ours, best = samples[OURS, 64], _best_peer(arena, samples, 64)
    if ours and best:
        yield claim(f"64 connections: rate over that of {best}", _ratio(ours, samples[best, 64]), least=1.3)
        late = latency(ours, 0.99) / latency(samples[best, 64], 0.99)
        yield claim(f"64 connections: p99 over that of {best}", late, most=1.0)
    if samples[OURS, 1] and samples[BARE, 1]:
        yield claim("1 connection: rate over the bare ASGI function's", _ratio(samples[OURS, 1], samples[BARE, 1]), 1.0)
    for name in (OURS, TWO_PROCESSES) if has_processes() else ():
        for count in (64, 512):
            if samples[name, count] and samples[ONE_PROCESS, count]:
                ratio = _ratio(samples[name, count], samples[ONE_PROCESS, count])
                yield claim(f"{count} connections: rate of {name} over that of one process", ratio, least=1.8)


def _best_peer(arena: Arena, samples: Samples, count: int) -> str | None:
    peers = [name for name in arena.names if CONTENDERS[name].peer and samples[name, count]]
    return max(peers, key=lambda name: median(samples[name, count], lambda sample: sample.rate), default=None)


def _ratio(ours: Sequence[Sample], theirs: Sequence[Sample]) -> float:
    """The median over the rounds of the ratio of rates."""
    return statistics.median(one.rate / other.rate for one, other in zip(ours, theirs, strict=False))


def _closed_table(arena: Arena, samples: Samples, count: int) -> str:
    best = _best_peer(arena, samples, count)
    title = f"{count} connection{'s' * (count > 1)}"
    lines = [[title, *COLUMNS, f"x {best}" if best else "x best peer"]]
    for name in arena.names:
        rounds = samples[name, count]
        cells = closed_cells(rounds)
        lines.append([name, *cells, f"{_ratio(rounds, samples[best, count]):.2f}" if best and rounds else "-"])
    return grid(lines)


def open_loop(arena: Arena) -> str:
    """Open loops at rising rates: how late answers are, and which share of them is good."""
    names = [name for name in arena.names if CONTENDERS[name].peer or is_ours(name) or name == BARE]
    samples: Samples = defaultdict(list)
    for round_ in range(arena.rounds):
        for name in arena.rotated(round_, names):
            try:
                with arena.server(name, arena.setting(name, 64)) as server:
                    warm(server, name)
                    for rate in RATES:
                        load = Load(CONTENDERS[name].seeds(first_seed()), OPEN_CONNECTIONS, arena.seconds, rate)
                        sample = measured(server, load, arena.clients)
                        samples[name, rate].append(sample)
                        progress(name, f"{rate}/s", _lateness([sample]), f"{sample.good_share:.1%}")
                        if sample.good_share < HOPELESS:
                            break
            except NotStarted:
                continue
    limit = f"{GOOD_SECONDS * 1e3:.0f} ms"
    heads = [f"{rate:,}/s" for rate in RATES]
    late = [["open loop: p50, p99, p99.9 in ms", *heads]]
    good = [[f"open loop: share within {limit}", *heads, "best goodput/s", f"highest rate with {LEAST_SHARE:.0%}"]]
    for name in names:
        rows = [samples[name, rate] for rate in RATES]
        late.append([name, *(_lateness(row) for row in rows)])
        share = [median(row, lambda sample: sample.good_share) for row in rows]
        goodput = max((median(row, lambda sample: sample.goodput) for row in rows if row), default=0)
        highest = max((rate for rate, part in zip(RATES, share, strict=True) if part >= LEAST_SHARE), default=0)
        cells = (f"{part:.1%}" if row else "-" for part, row in zip(share, rows, strict=True))
        good.append([name, *cells, f"{goodput:,.0f}", f"{highest:,}"])
    return f"{grid(late)}\n\n{grid(good)}"


def _lateness(samples: list[Sample]) -> str:
    if not samples:
        return "-"
    return " ".join(milliseconds(latency(samples, share)) for share in (0.5, 0.99, 0.999))


def npy(arena: Arena) -> str:
    """64 images an answer, as one npy array."""
    samples: dict[str, list[Sample]] = defaultdict(list)
    for round_ in range(arena.rounds):
        for name in arena.rotated(round_, [name for name in arena.names if is_ours(name)]):
            with arena.server(name) as server:
                warm(server, name)
                samples[name].append(measured(server, npy_load(arena), arena.clients))
    lines = [["npy of 64 images", "images/s", *COLUMNS]]
    for name, rounds in samples.items():
        lines.append([name, f"{64 * median(rounds, lambda sample: sample.rate):,.0f}", *closed_cells(rounds)])
    return grid(lines)


def npy_load(arena: Arena) -> Load:
    """A closed loop of requests for 64 images each, over 8 connections a core. Only Latentserve answers them."""
    head = b"GET /gan/generate?count=64&format=npy&seed="
    requests = Seeds(head, b" HTTP/1.1\r\nhost: localhost\r\n\r\n", first_seed())
    return Load(requests, max(16, 8 * len(os.sched_getaffinity(0))), arena.seconds)
