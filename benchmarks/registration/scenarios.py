"""The scenarios: speed and its growth, success rate, batches, memory, a million points."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from typing import NamedTuple

from benchmarks.registration import problems
from benchmarks.registration.contenders import CONTENDERS, OURS
from benchmarks.registration.problems import Pair, PoseError, pose_error, right
from benchmarks.registration.workers import Failure, Run, Worker


class Row(NamedTuple):
    """One contender on one kind of problem. Times and errors are medians over the rounds."""

    scenario: str
    problem: str
    contender: str
    points: int
    calls: int = 0  # number of rounds, or of problems
    seconds: float = math.nan  # wall clock
    processor_seconds: float = math.nan
    degrees: float = math.nan
    percent: float = math.nan  # error in % of the size
    success: float = math.nan  # fraction within 1° and 1 % of the size
    growth: float = math.nan  # MB
    peak: float = math.nan  # MB
    note: str = ""


class Arena:
    """The workers of the selected contenders, with the time limit for each."""

    def __init__(self, names: Iterable[str], limit: float, quick: bool) -> None:
        self.workers = {name: Worker(name) for name in names}
        self.limit = limit
        self.quick = quick

    def general(self) -> list[Worker]:
        """Workers that take the points as they come, that is, all but those that thin."""
        return [worker for name, worker in self.workers.items() if not CONTENDERS[name].thins]

    def local(self) -> list[Worker]:
        """Of these, the workers that solve problems with a small displacement, that is, all but the global searches."""
        return [worker for worker in self.general() if not CONTENDERS[worker.name].searches]

    def scanning(self) -> list[Worker]:
        """Latentserve, and the workers that thin."""
        return [worker for name, worker in self.workers.items() if name == OURS or CONTENDERS[name].thins]

    def ours(self) -> list[Worker]:
        """Latentserve, if it was selected."""
        return [worker for name, worker in self.workers.items() if name == OURS]

    def stop(self) -> None:
        """End all worker processes."""
        for worker in self.workers.values():
            worker.stop()


class Tally:
    """Running results of one contender on one kind of problem."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.errors: list[PoseError] = []
        self.spent = 0.0
        self.failed = 0
        self.note = ""

    def add(self, pairs: list[Pair], result: Run | Failure) -> None:
        """Add the result of one call with `pairs`."""
        self.spent += result.seconds
        if isinstance(result, Failure):
            self.failed += len(pairs)
            self.note = result.reason
            self.errors += [PoseError(math.inf, math.inf)] * len(pairs)
            return
        self.runs.append(result)
        for pair, answer in zip(pairs, result.answers, strict=True):
            if answer.rotation is not None and answer.translation is not None:
                self.errors.append(pose_error(pair, answer.rotation, answer.translation))

    def row(self, scenario: str, problem: str, contender: str, points: int) -> Row:
        """The medians of all results so far."""
        row = Row(scenario, problem, contender, points, calls=len(self.errors), note=self.note)
        if self.errors:
            row = row._replace(success=sum(map(right, self.errors)) / len(self.errors))
        if not self.runs:
            return row
        return row._replace(
            seconds=statistics.median(run.seconds for run in self.runs),
            processor_seconds=statistics.median(run.processor_seconds for run in self.runs),
            degrees=statistics.median(error.degrees for error in self.errors),
            percent=statistics.median(error.percent for error in self.errors),
            growth=max(run.growth for run in self.runs),
            peak=max(run.peak for run in self.runs),
        )


def speed(arena: Arena, shape: str) -> list[Row]:
    """Rigid problems with 10° of rotation and 1 % noise, from the identity. Each round has a new cloud.

    Contenders alternate within a round. A contender that has used up the time limit at one size skips that size's
    remaining rounds. A contender skips a size if its growth so far predicts more than the limit for one call.
    """
    sizes = [200, 1000, 5000] if arena.quick else [200, 1000, 5000, 20_000, 100_000]
    rows: list[Row] = []
    for points in sizes:
        tallies = {
            w.name: Tally()
            for w in arena.local()
            if expected([r for r in rows if r.contender == w.name], points) < arena.limit
        }
        for seed in range(3 if arena.quick else 9):
            pair = problems.close(seed, points, shape)
            for name, tally in tallies.items():
                if tally.spent < arena.limit and not tally.failed:
                    tally.add([pair], arena.workers[name].solve([pair.task], arena.limit, least=0.1))
        rows += [tally.row(f"speed {shape}", "10°", name, points) for name, tally in tallies.items()]
    return rows


def expected(rows: list[Row], points: int) -> float:
    """Predicted seconds of a call with `points` points, from the growth between the last two sizes; 0 at first."""
    known = [row for row in rows if math.isfinite(row.seconds)]
    if not known:
        return math.inf if rows else 0.0
    if len(known) < len(rows):
        return math.inf
    return known[-1].seconds * math.pow(points / known[-1].points, min(max(exponent(known[-2:]), 1.0), 2.0))


def exponent(rows: list[Row]) -> float:
    """Least-squares slope of log(processor time) over log(points); 2 for fewer than two sizes."""
    if len(rows) < 2:
        return 2.0
    x, y = [math.log(row.points) for row in rows], [math.log(row.processor_seconds) for row in rows]
    return statistics.linear_regression(x, y).slope


SUCCESS: dict[str, Callable[[int], Pair]] = {
    "any rotation": problems.turned,
    "outliers in target": problems.crowded,
    "outliers in both": lambda seed: problems.crowded(seed, both=True),
    "two thirds overlap": lambda seed: problems.cut(seed, 2 / 3),
    "half overlap": lambda seed: problems.cut(seed, 1 / 2),
    "any translation": problems.shifted,
}


def success(arena: Arena) -> list[Row]:
    """200 random problems of each kind, of 200 to 600 points.

    A third of the problems is 2-D, for contenders that accept 2-D. A peer that has used up the time limit skips the
    remaining problems of that kind, and its rate is over fewer problems.
    """
    rows: list[Row] = []
    for kind, draw in SUCCESS.items():
        tallies = {w.name: Tally() for w in arena.general()}
        for seed in range(24 if arena.quick else 200):
            pair = draw(seed)
            for name, tally in tallies.items():
                going_on = name == OURS or tally.spent < arena.limit
                if going_on and (CONTENDERS[name].plane or pair.task.source.shape[1] == 3):
                    tally.add([pair], arena.workers[name].solve([pair.task], arena.limit))
        rows += [tally.row("success", kind, name, 400) for name, tally in tallies.items()]
    return rows


def batch(arena: Arena) -> list[Row]:
    """256 translations of 100 points in 2-D in one call. The peers solve them one by one, as rigid problems."""
    pairs = [problems.small(seed) for seed in range(256)]
    tallies = {w.name: Tally() for w in arena.local()}
    for _ in range(3 if arena.quick else 7):
        for name, tally in tallies.items():
            if tally.spent < arena.limit / 2:
                result = arena.workers[name].solve([pair.task for pair in pairs], arena.limit)
                tally.add(pairs, result)
                if isinstance(result, Run) and not all(a.converged in (None, True) for a in result.answers):
                    tally.note = f"{sum(a.converged is False for a in result.answers)} not to tolerance"
    return [tally.row("batch", "256 translations in 2-D", name, 100) for name, tally in tallies.items()]


def memory(arena: Arena) -> list[Row]:
    """50,000 against 50,000 points, each contender in a new process."""
    return once(arena, "memory", 5000 if arena.quick else 50_000, arena.limit)


def million(arena: Arena) -> list[Row]:
    """A million against a million points, each contender in a new process."""
    return once(arena, "million", 100_000 if arena.quick else 1_000_000, 3 * arena.limit)


def once(arena: Arena, scenario: str, points: int, limit: float) -> list[Row]:
    """One call per contender, without the dense ones: for 50,000 points FilterReg needs 10 GB, and CPD 20 GB."""
    rows = []
    pair = problems.close(0, points)
    for worker in arena.local():
        if CONTENDERS[worker.name].dense:
            continue
        worker.stop()
        tally = Tally()
        tally.add([pair], worker.solve([pair.task], limit))
        rows.append(tally.row(scenario, "10°", worker.name, points))
    return rows
