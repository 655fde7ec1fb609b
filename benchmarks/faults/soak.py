"""A soak: a realistic mixture for an hour, during which memory, descriptors and threads must not grow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import uvloop

from benchmarks.faults.judging import learn
from benchmarks.faults.ledger import Ledger
from benchmarks.faults.mixture import requests
from benchmarks.faults.resources import Resources, resources
from benchmarks.faults.running import service
from benchmarks.faults.slope import Slope, fit
from benchmarks.faults.traffic import Traffic
from benchmarks.serving.arena import progress
from benchmarks.serving.tables import grid

CLIENTS, PAUSE = 8, 0.05
SAMPLE_SECONDS = 5.0
# The line is fitted from minute ten on, or from the sixth part of a shorter run: caches and pools have filled by then.
LEAST_WARM_UP = 600.0
PROGRESS_SECONDS = 300.0


class Bound(NamedTuple):
    """What a resource may rise an hour, and the rise during the run below which nothing is concluded.

    The second matters in short runs, where one allocation that stays would be hundreds of MB an hour.
    """

    per_hour: float
    rise: float

    def over(self, hours: float) -> float:
        """The allowed rise an hour in a run of `hours`."""
        return max(self.per_hour, self.rise / hours)


BOUNDS = {
    "pss": Bound(16.0, 8.0),
    "rss": Bound(24.0, 12.0),
    "descriptors": Bound(4.0, 4.0),
    "threads": Bound(1.0, 2.0),
    "processes": Bound(0.0, 0.5),
}


async def _soak(port: int, pid: int, seconds: float, ledger: Ledger) -> list[tuple[float, Resources]]:
    traffic = Traffic(port, await learn(port, requests()), ledger, CLIENTS, PAUSE)
    traffic.start()
    start = time.monotonic()
    samples: list[tuple[float, Resources]] = []
    told = 0.0
    while (now := time.monotonic() - start) < seconds:
        samples.append((now, await asyncio.to_thread(resources, pid)))
        if now >= told:
            told += PROGRESS_SECONDS
            progress(f"{now / 60:.0f} min: {ledger.equation()}, {samples[-1][1].pss:.0f} MB")
        await asyncio.sleep(SAMPLE_SECONDS)
    await traffic.stop()
    ledger.close()
    return samples


def slopes(samples: Sequence[tuple[float, Resources]], seconds: float) -> dict[str, Slope]:
    """The line of each resource, after the warm-up of a run of `seconds`."""
    begin = min(LEAST_WARM_UP, seconds / 6)
    kept = [(now, found) for now, found in samples if now >= begin]
    times = np.array([now for now, _ in kept])
    return {
        name: fit(times, np.array([getattr(found, name) for _, found in kept], float)) for name in Resources._fields
    }


def table(seconds: float, processes: int = 2) -> tuple[str, bool]:
    """Run the soak on a service started for it. Returns the lines, and whether nothing was wrong, lost, or grew."""
    ledger = Ledger()
    with service(processes) as server:
        samples = uvloop.run(_soak(server.port, server.process.pid, seconds, ledger))
    hours = (seconds - min(LEAST_WARM_UP, seconds / 6)) / 3600
    lines = [["all processes", "mean", "rise an hour", "±", "allowed", ""]]
    for name, slope in slopes(samples, seconds).items():
        bound = BOUNDS[name].over(hours)
        ledger.claim(not slope.exceeds(bound), f"{name} rises by {slope.per_hour:.2f} ± {slope.error:.2f} an hour")
        unit = " MB" if name in {"pss", "rss"} else ""
        verdict = "GROWS" if slope.exceeds(bound) else "flat"
        figures = [f"{value:.1f}" for value in (slope.mean, slope.per_hour, slope.error, bound)]
        lines.append([f"{name}{unit}", *figures, verdict])
    told = [f"  {one}" for one in [*ledger.faults, *ledger.broken]]
    first = f"{seconds:g} s, {ledger.offered / seconds:.0f} requests a second"
    return "\n".join([first, ledger.equation(), grid(lines), *told]), ledger.is_clean
