"""Latentserve with rising numbers of processes: one PNG an answer, and 64 images an answer as one npy array."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator

from benchmarks.serving.arena import Arena, first_seed, measured, progress, warm
from benchmarks.serving.contenders import CONTENDERS, OURS, Setting
from benchmarks.serving.figures import Sample
from benchmarks.serving.load import Load
from benchmarks.serving.pictures import npy_load
from benchmarks.serving.tables import COLUMNS, closed_cells, grid, median

CONNECTIONS = 512
# Seconds between two loads on one server.
PAUSE = 0.5


def table(arena: Arena) -> str:
    """Rates of 1, 2, 4, ... processes, up to one for each core."""
    pictures: dict[int, list[Sample]] = defaultdict(list)
    arrays: dict[int, list[Sample]] = defaultdict(list)
    for _ in range(arena.rounds):
        for count in _counts():
            with arena.server(OURS, Setting(count)) as server:
                warm(server, OURS)
                load = Load(CONTENDERS[OURS].seeds(first_seed()), CONNECTIONS, arena.seconds)
                pictures[count].append(measured(server, load, arena.clients))
                # By then the service knows that these connections are closed, and divides the next ones equally.
                time.sleep(PAUSE)
                arrays[count].append(measured(server, npy_load(arena), arena.clients))
            progress(f"{count} processes", *closed_cells(pictures[count][-1:]), *closed_cells(arrays[count][-1:]))
    return f"{_grid(f'PNG, {CONNECTIONS} connections', pictures, 1)}\n\n{_grid('npy of 64 images', arrays, 64)}"


def _grid(title: str, samples: dict[int, list[Sample]], images: int) -> str:
    lines = [[title, "images/s", "x 1 process", *COLUMNS]]
    rates = {count: images * median(rounds, lambda sample: sample.rate) for count, rounds in samples.items()}
    for count, rounds in samples.items():
        name = f"{count} process{'es' * (count > 1)}"
        lines.append([name, f"{rates[count]:,.0f}", f"{rates[count] / rates[1]:.2f}", *closed_cells(rounds)])
    return grid(lines)


def _counts() -> Iterator[int]:
    """Powers of two below the number of cores, and that number."""
    cores = len(os.sched_getaffinity(0))
    count = 1
    while count < cores:
        yield count
        count *= 2
    yield cores
