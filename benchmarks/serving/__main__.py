"""`python -m benchmarks.serving`: measure the service and its peers under load, and print tables."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.serving import interference, mixtures, pictures, registrations, scaling, starts, together
from benchmarks.serving.arena import Arena
from benchmarks.serving.contenders import CONTENDERS, TWO_PROCESSES, describe
from benchmarks.serving.peers.options import one_thread

SCENARIOS: dict[str, Callable[[Arena], str]] = {
    "tune": pictures.tune,
    "closed": pictures.closed,
    "start": starts.table,
    "open": pictures.open_loop,
    "npy": pictures.npy,
    "scaling": scaling.table,
    "register": registrations.overhead,
    "interference": interference.table,
    "mixtures": mixtures.table,
    "together": lambda arena: together.table(arena.rounds == 1),
}


def main() -> None:
    """Run the scenarios that the command line selects."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="may be repeated; default: all")
    parser.add_argument("--contender", action="append", choices=CONTENDERS, help="may be repeated; default: all")
    parser.add_argument("--quick", action="store_true", help="one short round, with the settings that were best before")
    parser.add_argument("--rounds", type=int, help="rounds that alternate between the contenders")
    parser.add_argument("--seconds", type=float, help="seconds of one load")
    parser.add_argument(
        "--clients", type=int, default=1, help="processes of the load generator; one sends 20,000 requests a second"
    )
    chosen = parser.parse_args()
    # An end by SIGTERM also ends the server that runs.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    one_thread()
    names = chosen.contender or [name for name in CONTENDERS if name != TWO_PROCESSES or (os.cpu_count() or 1) > 2]
    arena = Arena(
        names,
        rounds=chosen.rounds or (1 if chosen.quick else 3),
        seconds=chosen.seconds or (2.0 if chosen.quick else 4.0),
        clients=chosen.clients,
        tuned={},
        failed={},
    )
    scenarios = chosen.scenario or [name for name in SCENARIOS if not (chosen.quick and name == "tune")]
    print(f"{datetime.now(UTC).date().isoformat()}, {machine()}; client and servers on the same cores")
    print(f"{arena.rounds} rounds of {arena.seconds:g} s, load average {os.getloadavg()[0]:.1f} at the start\n")
    for name in names:
        print(f"{name:<24} {installed(CONTENDERS[name].package):<20} {describe(name, arena.setting(name, 64))}")
    for scenario in scenarios:
        print(f"\n{SCENARIOS[scenario](arena)}", flush=True)
        if scenario == "tune":
            for (name, alone), setting in arena.tuned.items():
                print(f"best for {'one connection' if alone else '64 connections'}: {name}, {describe(name, setting)}")
    for name, reason in arena.failed.items():
        print(f"\n{name} did not start: {reason}")


def machine() -> str:
    """Processor, number of cores, and the versions of Python and torch."""
    models = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    processor = models[0] if models else platform.machine()
    cores = len(os.sched_getaffinity(0))
    return f"{processor}, {cores} cores, Python {platform.python_version()}, torch {version('torch')}"


def installed(package: str) -> str:
    """Package name and version. Latentserve itself runs from the working tree."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} (not installed)"


if __name__ == "__main__":
    main()
