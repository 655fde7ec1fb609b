"""Faults of every kind, one after another: each scenario prints its account and what it claims."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from benchmarks.faults.scenarios import bodies, clients, deaths, overload, surroundings
from benchmarks.faults.scenarios.outcome import Outcome, Skipped
from benchmarks.serving.processes import NotStarted

SCENARIOS: dict[str, Callable[[bool], Outcome]] = {
    "kill": deaths.kill,
    "poison": deaths.poison,
    "hang-ups": clients.hang_ups,
    "slow-loris": clients.slow_loris,
    "held-bodies": clients.held_bodies,
    "greedy-bodies": bodies.greedy,
    "full-queue": overload.full_queue,
    "deadlines": overload.with_deadlines,
    "no-deadlines": overload.without_deadlines,
    "clock": surroundings.clock,
    "logs": surroundings.logs,
    "memory": surroundings.memory,
    "sigterm": deaths.sigterm,
}


def run(names: Sequence[str], *, quick: bool) -> bool:
    """Run scenarios and print each. Returns whether in none of them anything was wrong or lost, or a claim broken."""
    failed = []
    for name in names:
        scenario = SCENARIOS[name]
        print(f"{name}: {scenario.__doc__}", flush=True)
        start = time.monotonic()
        try:
            outcome = scenario(quick)
        except Skipped as reason:
            print(f"  SKIPPED: {reason}\n", flush=True)
            continue
        except NotStarted as reason:
            failed.append(name)
            print(f"  FAILED: the service did not start: {str(reason).strip()[-300:]}\n", flush=True)
            continue
        ledger = outcome.ledger
        if not ledger.is_clean:
            failed.append(name)
        print(f"  {ledger.equation()}, {time.monotonic() - start:.0f} s")
        for line in [*outcome.lines, *ledger.faults, *(f"BROKEN: {claim}" for claim in ledger.broken)]:
            print(f"  {line}")
        print(flush=True)
    print(f"FAILED: {', '.join(failed)}" if failed else "nothing wrong, nothing lost")
    return not failed
