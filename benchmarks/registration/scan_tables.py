"""Cells and required figures of the scenarios with scans, overlaps and regions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from benchmarks.registration.contenders import OURS
from benchmarks.registration.scenarios import Row
from benchmarks.registration.texts import claim, duration

GICP = "small_gicp GICP, thinned"
OVERLAP, REGIONS = "overlap of 30 %", "95 % regions that hold the truth"
ANYWHERE, NEAR, REAL = "scans from any pose", "scans", "real scans"


def with_errors(row: Row) -> str:
    """Time, median errors, and how many of the pairs were within the bounds of their kind."""
    if not math.isfinite(row.seconds):
        return row.note or "-"
    count = f"{round(row.success * row.calls)}/{row.calls}"
    return f"{duration(row.processor_seconds)} {row.degrees:.2f}° {row.percent / 100:.3f} m {count}"


def claims(rows: list[Row]) -> Iterator[str]:
    """One line for each requirement of scans that was measured."""
    peers = {row.problem: row for row in rows if row.scenario == NEAR and row.contender == GICP}
    for row in rows:
        name = f"{row.scenario}, {row.problem}"
        if row.contender != OURS or not math.isfinite(row.seconds):
            continue
        if row.scenario in (NEAR, ANYWHERE):
            yield claim(f"{name}: share right", row.success, row.success == 1, "= 100%", "{:.0%}")
            peer = peers.get(row.problem)
            if peer is not None and math.isfinite(peer.seconds):
                most = 3 if row.scenario == NEAR else 10
                ratio = row.processor_seconds / peer.processor_seconds
                yield claim(f"{name}: time over GICP's", ratio, ratio <= most, f"<= {most}", "{:.1f}")
        elif row.scenario.startswith(REAL):
            if row.scenario.endswith("auto"):  # the identity is far from the pose of the room
                yield claim(f"{name}: right", row.success, row.success == 1, "= 100%", "{:.0%}")
            yield claim(f"{name}: seconds", row.seconds, row.seconds <= 3, "<= 3", "{:.2f}")
        elif row.scenario == OVERLAP:
            yield claim(f"{name}: success", row.success, row.success >= 0.9, ">= 90%", "{:.1%}")
    held = [row.success for row in rows if row.scenario == REGIONS and math.isfinite(row.success)]
    if held:  # as many scans of each kind
        mean = statistics.mean(held)
        yield claim(f"{REGIONS}: share", mean, 0.9 <= mean <= 0.98, "90-98%", "{:.1%}")
