"""`python -m benchmarks.faults`: a soak, chaos, or fuzzed requests; status 1 says that something was wrong or lost."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from datetime import UTC, datetime

from benchmarks.faults import chaos, fuzz, soak
from benchmarks.serving.__main__ import machine
from benchmarks.serving.peers.options import one_thread


def main() -> int:
    """Run one command. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    long = commands.add_parser("soak", help=soak.__doc__)
    long.add_argument("--seconds", type=float, default=3600.0, help="default: an hour")
    hard = commands.add_parser("chaos", help="faults of every kind, one after another")
    hard.add_argument("--scenario", action="append", choices=chaos.SCENARIOS, help="may be repeated; default: all")
    hard.add_argument("--quick", action="store_true", help="shorter loads")
    strange = commands.add_parser("fuzz", help="mutated requests over HTTP")
    strange.add_argument("--count", type=int, default=100_000, help="number of requests")
    strange.add_argument("--seed", type=int, default=0, help="another seed gives other requests")
    strange.add_argument("--first", type=int, default=0, help="number of the first request, to repeat a part of a run")
    strange.add_argument("--bounds", action="store_true", help="compiled loops check their indices; compiles them anew")
    for command in (long, strange):
        command.add_argument("--processes", type=int, default=2, help="processes of the service")
    chosen = parser.parse_args()
    # An end by SIGTERM also ends the services that run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    one_thread()
    print(f"{datetime.now(UTC).date().isoformat()}, {machine()}; clients and service on the same cores")
    print(f"load average {os.getloadavg()[0]:.1f} at the start\n", flush=True)
    if chosen.command == "chaos":
        return 0 if chaos.run(chosen.scenario or list(chaos.SCENARIOS), quick=chosen.quick) else 1
    if chosen.command == "soak":
        lines, is_clean = soak.table(chosen.seconds, chosen.processes)
    else:
        lines, is_clean = fuzz.table(chosen.count, chosen.seed, chosen.first, chosen.processes, bounds=chosen.bounds)
    print(lines)
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
