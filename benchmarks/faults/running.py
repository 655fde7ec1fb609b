"""The service as a process of its own, with chosen settings, a chosen log, and hooks for faults."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import IO

from benchmarks.serving import processes
from benchmarks.serving.contenders import READY
from benchmarks.serving.processes import Server

# Seconds until it is ready. The first start on a machine compiles the loops of registration.
START_PATIENCE = 900.0
# Compiled loops that check their indices, cached apart from the others. An index out of bounds is then an error, not an
# access somewhere in memory.
BOUNDS = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(processes.ROOT / "build" / "bounds")}
NOTHING: Mapping[str, str] = MappingProxyType({})


@contextmanager
def service(
    count: int = 2,
    hook: str = "",
    stderr: IO[bytes] | int | None = None,
    variables: Mapping[str, str] = NOTHING,
    **settings: object,
) -> Iterator[Server]:
    """Run the service until the end of the block.

    Args:
        count: its processes.
        hook: name of a hook in `benchmarks.faults.launcher`, which then starts the service.
        stderr: where its log goes; a temporary file by default.
        variables: further variables of its environment.
        settings: further LATENTSERVE_ settings, by their names in lower case.

    Raises:
        NotStarted: it ended before it was ready, or was not ready in time.
    """
    port = processes.free_port()
    start = ["benchmarks.faults.launcher", hook] if hook else ["service"]
    command = [sys.executable, "-m", *start, "serve", "--port", str(port)]
    chosen = {"processes": count, "drain_seconds": 0, **settings}
    given = {f"LATENTSERVE_{name.upper()}": str(value) for name, value in chosen.items()}
    environment = {**os.environ, **variables, **given}
    with processes.running(command, port, READY, environment, START_PATIENCE, stderr) as server:
        yield server
