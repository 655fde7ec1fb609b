"""One process per contender, which isolates imports, threads and memory. The process itself takes the times.

All workers are pinned to the same core, so that a library cannot gain from extra threads. Only one worker computes
at a time.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NamedTuple

from benchmarks.registration.contenders import CONTENDERS
from benchmarks.registration.problems import close
from benchmarks.registration.tasks import Answer, Solve, Task

THREADS = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "RAYON", "NUMBA")
MEGABYTE = 1e6
START = 600.0  # maximum seconds for imports, and for compilation at the first call


class Run(NamedTuple):
    """Cost of one call. A short call is repeated, and the medians are reported."""

    answers: list[Answer]
    seconds: float  # wall clock
    processor_seconds: float  # of all threads; equals the wall clock on an idle core
    growth: float  # MB, peak resident memory minus resident memory before the call
    peak: float  # MB, peak resident memory


class Failure(NamedTuple):
    """The reason why a call gave no answer."""

    reason: str
    seconds: float = 0.0  # waited before giving up


class Worker:
    """A contender in its own process. It starts at the first task, and again after a task that timed out."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._context = get_context("spawn")
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def solve(self, tasks: Sequence[Task], limit: float, least: float = 0.0) -> Run | Failure:
        """Time one call with all `tasks`. After `limit` seconds the process is killed and a Failure returned.

        The call is repeated until the total reaches `least` seconds, at most 50 times.
        """
        pipe = self._start()
        if isinstance(pipe, Failure):
            return pipe
        pipe.send((tasks, least))
        # The worker first reports that it is warm, possibly after minutes of compilation, then sends the result.
        for patience in (START, limit + least):
            if not pipe.poll(patience):
                self.stop()
                return Failure(f"more than {patience:.0f} s", patience)
            try:
                result = pipe.recv()
            except EOFError:
                self.stop()
                return Failure("its process died")
            if isinstance(result, Run | Failure):
                return result
        return Failure("nothing but warming up")

    def stop(self) -> None:
        """End the process if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process, self._pipe = None, None

    def _start(self) -> Connection | Failure:
        if self._pipe is not None:
            return self._pipe
        pipe, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(self.name, theirs), daemon=True)
        process.start()
        theirs.close()
        said = Failure("did not start")
        with suppress(EOFError):
            if pipe.poll(START) and (said := pipe.recv()) == "ready":
                self._process, self._pipe = process, pipe
                return pipe
        process.kill()
        return said


def single_threaded() -> None:
    """Limit libraries to one thread by environment variables, in this process and its children."""
    os.environ.update({f"{library}_NUM_THREADS": "1" for library in THREADS})


def _serve(name: str, pipe: Connection) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    contender = CONTENDERS[name]
    try:
        solve = contender.start()
    except ImportError as error:
        pipe.send(Failure(str(error)))
        return
    pipe.send("ready")
    warm: set[tuple[object, ...]] = set()
    while True:
        tasks, least = pipe.recv()
        # Compilation and lazy loading, once per kind of problem, are excluded from the time.
        kind = (*tasks[0][2:], tasks[0].source.shape[1])
        try:
            if kind not in warm:
                warm.add(kind)
                for example in _examples(tasks[0], contender.warm_up):
                    solve([example])
            pipe.send("warm")
            pipe.send(_timed(solve, tasks, least))
        except BaseException as error:  # a Rust panic is not an Exception, and must appear in the table
            pipe.send(Failure(f"{type(error).__name__}: {error}"[:200]))


def _examples(task: Task, warm_up: int) -> list[Task]:
    """Problems for warming up. A scan is its own, because of its unit, and because its loops may be others."""
    if task.voxel:
        return [task]
    near = (
        close(0, count, "cube" if task.source.shape[1] == 3 else "leaf").task
        for count in {min(len(task.source), most) for most in (300, warm_up)}
    )
    return [task._replace(source=one.source, target=one.target) for one in near]


def _timed(solve: Solve, tasks: Sequence[Task], least: float) -> Run:
    before, _ = _memory(reset=True)
    seconds: list[float] = []
    processor: list[float] = []
    while not seconds or (sum(seconds) < least and len(seconds) < 50):
        wall, cpu = time.perf_counter(), time.process_time()
        answers = solve(tasks)
        processor.append(time.process_time() - cpu)
        seconds.append(time.perf_counter() - wall)
    _, peak = _memory()
    return Run(answers, statistics.median(seconds), statistics.median(processor), peak - before, peak)


def _memory(reset: bool = False) -> tuple[float, float]:
    """Resident memory in MB: now, and its peak since the last reset. `ru_maxrss` would include the parent's peak."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    resident, peak = (int(status[key].split()[0]) * 1024 / MEGABYTE for key in ("VmRSS", "VmHWM"))
    return resident, peak
