"""Format the rows as text: one table per scenario, and the required figures of Latentserve.

Speed is processor time. With one thread it equals the wall-clock time of an idle core, and other processes do not
inflate it. All other times are wall-clock times.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable

from benchmarks.registration import scan_tables
from benchmarks.registration.contenders import OURS
from benchmarks.registration.scenarios import Row, exponent
from benchmarks.registration.texts import claim, duration, grid


def tables(rows: list[Row]) -> str:
    """All tables, separated by blank lines."""
    blocks = []
    for scenario in dict.fromkeys(row.scenario for row in rows):
        part = [row for row in rows if row.scenario == scenario]
        if scenario.startswith("speed"):
            blocks.append(grid(scenario, part, lambda row: f"N = {row.points:,}", _time_and_error))
            blocks.append(f"{_growth(scenario, part)}\n{_busy(part)}")
        elif scenario in ("success", "figures", scan_tables.OVERLAP, scan_tables.REGIONS):
            blocks.append(grid(scenario, part, lambda row: row.problem, _rate))
        elif scenario == "batch":
            blocks.append(grid(scenario, part, lambda row: row.problem, _throughput))
        elif scenario.startswith((scan_tables.NEAR, scan_tables.REAL)):
            blocks.append(grid(scenario, part, lambda row: row.problem, scan_tables.with_errors))
        else:
            blocks.append(grid(scenario, part, lambda row: f"N = M = {row.points:,}", _memory))
    return "\n\n".join(blocks)


def claims(rows: list[Row]) -> str:
    """One line for each requirement that was measured: the figure, the bound, and whether the bound holds."""
    lines = [line for scenario in ("speed cube", "speed surface") for line in _speed_claims(rows, scenario)]
    for row in rows:
        if row.contender != OURS:
            continue
        if not math.isfinite(row.seconds):
            lines.append(f"{row.scenario}, {row.problem}: no answer: {row.note}")
        elif row.scenario == "success":
            least = _LEAST[row.problem]
            lines.append(
                claim(f"{row.problem}: success", row.success, row.success >= least, f">= {least:.0%}", "{:.1%}")
            )
        elif row.scenario == "batch":
            rate = 256 / row.seconds
            lines.append(claim("batch: registrations a second", rate, rate >= 1000, ">= 1000", "{:.0f}"))
        elif row.scenario == "memory":
            lines.append(
                claim(f"N = M = {row.points:,}: growth in MB", row.growth, row.growth < 500, "< 500", "{:.0f}")
            )
        elif row.scenario == "million":
            lines.append(claim(f"N = M = {row.points:,}: seconds", row.seconds, row.seconds <= 60, "<= 60", "{:.1f}"))
            lines.append(claim(f"N = M = {row.points:,}: peak in MB", row.peak, row.peak <= 6000, "<= 6000", "{:.0f}"))
        elif row.scenario == "figures" and row.problem != "deformed fish":
            lines.append(claim(f"{row.problem}: success", row.success, row.success == 1, "= 100%", "{:.1%}"))
        elif row.scenario == "figures":
            others = [r for r in rows if r.problem == row.problem]
            other = _find(others, row.scenario, "pycpd", row.points)
            if other is not None:
                ratio = row.percent / other.percent
                lines.append(claim("deformed fish: distance over pycpd's", ratio, ratio < 1, "< 1", "{:.2f}"))
    return "\n".join([*lines, *scan_tables.claims(rows)])


_LEAST = {
    "any rotation": 0.99,
    "outliers in target": 0.97,
    "outliers in both": 0.97,
    "two thirds overlap": 0.95,
    "half overlap": 0.85,
    "any translation": 1.0,
}


def _speed_claims(rows: list[Row], scenario: str) -> Iterable[str]:
    for points, peers, most in (
        (200, ("Open3D ICP", "Open3D ICP 100"), 5.0),
        (1000, ("rustcpd",), 0.2),
        (1000, ("rustcpd k=10",), 0.2),
        (5000, ("Open3D ICP", "Open3D ICP 100"), 1.0),
        (20_000, ("Open3D ICP", "Open3D ICP 100"), 1.0),
        (100_000, ("Open3D ICP", "Open3D ICP 100"), 1.0),
        (100_000, ("small_gicp ICP", "small_gicp ICP 100"), 1.0),
    ):
        ours = _find(rows, scenario, OURS, points)
        theirs = [row for peer in peers if (row := _find(rows, scenario, peer, points)) is not None]
        if ours is not None and theirs:
            ratio = ours.processor_seconds / min(row.processor_seconds for row in theirs)
            yield claim(f"{scenario}, {points:,}: time over {peers[0]}'s", ratio, ratio <= most, f"<= {most}", "{:.2f}")
    if (ours := _find(rows, scenario, OURS, 100_000)) is not None:
        yield claim(f"{scenario}, 100,000: degrees", ours.degrees, ours.degrees < 0.02, "< 0.02", "{:.4f}")
    slope = _slope([row for row in rows if row.scenario == scenario and row.contender == OURS])
    if slope is not None:
        yield claim(f"{scenario}: growth exponent from 1,000 points on", slope, slope <= 1.3, "<= 1.3", "{:.2f}")


def _find(rows: list[Row], scenario: str, contender: str, points: int) -> Row | None:
    """The matching row with a finite time, or None."""
    for row in rows:
        if (row.scenario, row.contender, row.points) == (scenario, contender, points) and math.isfinite(row.seconds):
            return row
    return None


def _growth(title: str, rows: list[Row]) -> str:
    slopes = {
        name: _slope([r for r in rows if r.contender == name]) for name in dict.fromkeys(r.contender for r in rows)
    }
    known = [f"{name} {slope:.2f}" for name, slope in slopes.items() if slope is not None]
    return f"{title}: time grows from 1,000 points on with the exponent: " + ", ".join(known or ["-"])


def _busy(rows: list[Row]) -> str:
    ratios = [row.seconds / row.processor_seconds for row in rows if math.isfinite(row.seconds)]
    return f"wall clock over processor time: {statistics.median(ratios):.2f}" if ratios else "no answers"


def _slope(rows: list[Row]) -> float | None:
    usable = [row for row in rows if row.points >= 1000 and math.isfinite(row.seconds)]
    return exponent(usable) if len(usable) > 1 else None


def _time_and_error(row: Row) -> str:
    return f"{duration(row.processor_seconds)} {row.degrees:.3f}°" if math.isfinite(row.seconds) else row.note or "-"


def _rate(row: Row) -> str:
    if not math.isfinite(row.success):
        return f"{row.note} {duration(row.seconds)}" if math.isfinite(row.seconds) else row.note or "-"
    return f"{row.success:.1%} of {row.calls} {duration(row.seconds)}"


def _throughput(row: Row) -> str:
    if not math.isfinite(row.seconds):
        return row.note or "-"
    return f"{256 / row.seconds:,.0f} a second, {row.success:.1%} right {row.note}".rstrip()


def _memory(row: Row) -> str:
    if not math.isfinite(row.seconds):
        return row.note or "-"
    return f"+{row.growth:,.0f} MB, peak {row.peak:,.0f} MB, {duration(row.seconds)}, {row.degrees:.3f}°"
