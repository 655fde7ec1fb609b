"""`python -m benchmarks.registration`: run all scenarios with all contenders on one core, and print tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.registration.contenders import CONTENDERS, OURS
from benchmarks.registration.coverage import overlap, regions
from benchmarks.registration.figures import figures
from benchmarks.registration.scans import anywhere, near, real
from benchmarks.registration.scenarios import Arena, Row, batch, memory, million, speed, success
from benchmarks.registration.tables import claims, tables
from benchmarks.registration.workers import single_threaded

SCENARIOS: dict[str, Callable[[Arena], list[Row]]] = {
    "speed": lambda arena: speed(arena, "cube"),
    "surface": lambda arena: speed(arena, "surface"),
    "success": success,
    "figures": figures,
    "batch": batch,
    "memory": memory,
    "million": million,
    "scans": lambda arena: near(arena) + anywhere(arena),
    "real": real,
    "overlap": overlap,
    "regions": regions,
}


def main() -> None:
    """Run the scenarios that the command line selects."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.registration", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="may be repeated; default: all")
    parser.add_argument("--contender", action="append", choices=CONTENDERS, help="may be repeated; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer problems, fewer points")
    parser.add_argument(
        "--limit",
        type=float,
        default=60,
        help="maximum seconds per contender, for one call and for one kind of problem",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to FILE")
    chosen = parser.parse_args()
    single_threaded()
    names = chosen.contender or list(CONTENDERS)
    about = {"date": datetime.now(UTC).date().isoformat(), "machine": machine()}
    print(f"{about['date']}, {about['machine']}; one core, one thread; float64 arrays in, a pose out, all included\n")
    for name in names:
        print(f"{name:<20} {installed(CONTENDERS[name].package):<26} {CONTENDERS[name].settings}")
    arena = Arena(names, chosen.limit, chosen.quick)
    rows: list[Row] = []
    try:
        for scenario in chosen.scenario or SCENARIOS:
            found = SCENARIOS[scenario](arena)
            rows += found
            if found:
                print(f"\n{tables(found)}", flush=True)
    finally:
        arena.stop()
    if OURS in names:
        print(f"\n{claims(rows)}")
    if chosen.json:
        about_peers = {name: installed(CONTENDERS[name].package) for name in names}
        document = {**about, "contenders": about_peers, "rows": [row._asdict() for row in rows]}
        chosen.json.write_text(json.dumps(document, indent=1, ensure_ascii=False))


def machine() -> str:
    """Processor, core count, and the versions of Python and numpy."""
    models = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    processor = models[0] if models else platform.machine()
    return f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {version('numpy')}"


def installed(package: str) -> str:
    """Package name and version. Latentserve itself runs from the working tree."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package if package == "latentserve" else f"{package} (not installed)"


if __name__ == "__main__":
    main()
