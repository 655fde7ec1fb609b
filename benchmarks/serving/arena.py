"""What all scenarios share: the chosen contenders and lengths, the tuned settings, and one measured load."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from benchmarks.serving.contenders import CONTENDERS, FIRST_SEED, Setting, running
from benchmarks.serving.figures import Sample
from benchmarks.serving.load import Load, run
from benchmarks.serving.processes import NotStarted, Server

# Each load begins at a seed of its own, so that no digit is asked for twice.
LOAD_STRIDE = 10**6
_first_seeds = itertools.count(FIRST_SEED + LOAD_STRIDE, LOAD_STRIDE)


class Arena(NamedTuple):
    """The choices of the command line, and what tuning found."""

    names: Sequence[str]
    rounds: int
    seconds: float  # of one load
    clients: int  # processes of the load generator
    tuned: dict[tuple[str, bool], Setting]  # by contender, and whether for one connection
    failed: dict[str, str]  # contenders that did not start, and why

    def setting(self, name: str, connections: int) -> Setting:
        """The best known settings of a contender for this number of connections."""
        contender = CONTENDERS[name]
        default = contender.settings[0] if connections > 1 else contender.alone or contender.settings[0]
        return self.tuned.get((name, connections == 1), default)

    def rotated(self, round_: int, names: Sequence[str] | None = None) -> Sequence[str]:
        """The contenders that start, from another one on in each round."""
        usable = [name for name in names or self.names if name in self.names and name not in self.failed]
        shift = round_ % max(len(usable), 1)
        return [*usable[shift:], *usable[:shift]]

    @contextmanager
    def server(self, name: str, setting: Setting | None = None) -> Iterator[Server]:
        """Run a contender. Raises NotStarted, and leaves it out of later rounds, if it does not start."""
        try:
            with running(name, setting) as server:
                yield server
        except NotStarted as error:
            self.failed[name] = str(error)
            raise


def progress(*words: str) -> None:
    """Report on stderr what has been measured, because a table is printed only at its end."""
    print(*words, file=sys.stderr, flush=True)


def first_seed() -> int:
    """A seed from which a load may begin."""
    return next(_first_seeds)


def measured(server: Server, load: Load, clients: int = 1) -> Sample:
    """Put a load on the server; the sample has the processor time of both sides. Raises ConnectionError as `run`."""
    before = server.processor_seconds()
    sample = run(server.port, load, clients)
    return sample._replace(server_seconds=server.processor_seconds() - before)


def warm(server: Server, name: str) -> None:
    """Send a second of requests, so that code and caches of the server are as in steady operation."""
    with suppress(ConnectionError):
        run(server.port, Load(CONTENDERS[name].seeds(first_seed()), 32, 1.0))
