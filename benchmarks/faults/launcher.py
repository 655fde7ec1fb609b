"""Start the service with a fault inside: `python -m benchmarks.faults.launcher HOOK serve --port N`.

The service itself has no test hooks. This program changes what a hook is about, in its own process, and then runs the
service's own command; the replicas are forked from it and have the same fault.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Seeds of pictures. The first breaks the worker of the digits in whatever batch; the second is too large for the memory
# unless its batch is small.
POISON, HUNGRY = 666_000_666, 777_000_777
MOST_BESIDE_HUNGRY = 2
# Variables of the environment for the hooks.
CLOCK, GROUP = "FAULTS_CLOCK", "FAULTS_GROUP"


def poison() -> None:
    """Break the worker of the digits for the seeds POISON and HUNGRY."""
    from service.gan.worker import GanWorker

    whole = GanWorker.__call__

    def call(self: GanWorker, jobs: list[Any]) -> list[Any]:
        seeds = [getattr(job, "seed", None) for job in jobs]
        if POISON in seeds:
            raise RuntimeError("poison")
        if HUNGRY in seeds and len(jobs) > MOST_BESIDE_HUNGRY:
            raise MemoryError("hungry")
        return whole(self, jobs)

    setattr(GanWorker, "__call__", call)  # noqa: B010


def clock() -> None:
    """Shift the time of day by the seconds in the file that CLOCK names. Monotonic clocks never jump."""
    path = Path(os.environ[CLOCK])
    true = time.time

    def shifted() -> float:
        return true() + float(path.read_text() or 0)

    time.time = shifted
    time.time_ns = lambda: int(shifted() * 1e9)


def group() -> None:
    """Enter the control group whose folder GROUP names."""
    (Path(os.environ[GROUP]) / "cgroup.procs").write_text(str(os.getpid()))


def silent() -> None:
    """Close stderr, as some process managers do."""
    os.close(2)


def hung() -> None:
    """Let no write to a file return, as on a disk of the network that hangs."""
    write = os.write

    def writing(descriptor: int, text: bytes) -> int:
        while stat.S_ISREG(os.fstat(descriptor).st_mode):
            time.sleep(1)
        return write(descriptor, text)

    setattr(os, "write", writing)  # noqa: B010


HOOKS: dict[str, Callable[[], None]] = {hook.__name__: hook for hook in (poison, clock, group, silent, hung)}


def main() -> int:
    """Set the fault and run the service's command. Returns its exit status."""
    hook, *arguments = sys.argv[1:]
    # As the command itself does, before anything imports NumPy.
    from service.__main__ import ONE_THREAD
    from service.__main__ import main as run

    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    HOOKS[hook]()
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
