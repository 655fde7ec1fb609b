"""Collects the snapshots of all processes for the replica that is asked for metrics."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from . import channel
from .board import Board
from .channel import pack
from .instruments import Counter, Description, Gauge, snapshot
from .replica import Replica
from .totals import lasting
from .usage import Usage

# Seconds to wait for the replicas' snapshots. Of one that is late, the previous snapshot counts.
SNAPSHOT_SECONDS = 0.5

Tell = Callable[[Replica, bytes, bytes], None]
"""Sends a message to a replica: its kind and its content."""


def replica_instruments() -> tuple[Gauge, Counter]:
    """The number of processes that take connections, and how often one was started again."""
    live = Gauge(Description("latentserve_replicas", "Processes that take connections."))
    restarts = Counter(
        Description("latentserve_replica_restarts", "Restarts of replicas that died, and of the process of the GPU.")
    )
    live.set(1)
    restarts.add((), 0)
    return live, restarts


class _Question:
    """One question for the snapshots of all processes: who asked, with which name, and which replicas are to answer."""

    def __init__(self, asker: Replica, name: bytes, waiting: set[int]) -> None:
        self.asker = asker
        self.name = name
        self.waiting = waiting


class Collector:
    """Asks all replicas for their snapshots, and adds those of the supervisor and of replicas that ended.

    `others` returns the ids of further processes, whose use of the machine is the supervisor's.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        board: Board,
        tell: Tell,
        after: Callable[[float, Callable[[], None]], None],
        others: Callable[[], Sequence[int]] = list,
    ) -> None:
        self._replicas = replicas
        self._board = board
        self._tell = tell
        self._after = after
        self._numbers = itertools.count()
        self._questions: dict[bytes, _Question] = {}
        # The counters of replicas that have ended, so that totals never decrease.
        self._ended = b"[]"
        self._usage = Usage(others)
        self._live, self.restarts = replica_instruments()

    def ask(self, asker: Replica, name: bytes) -> None:
        """Begin to collect for `asker`, which calls its question `name`."""
        number = next(self._numbers).to_bytes(4, "big")
        running = [replica for replica in self._replicas if replica.channel is not None]
        self._questions[number] = _Question(asker, name, {replica.number for replica in running})
        for replica in running:
            self._tell(replica, channel.SNAPSHOT, number)
        self._after(SNAPSHOT_SECONDS, lambda: self._finish(number))

    def answered(self, replica: Replica, content: bytes) -> None:
        """Take the answer of one replica."""
        number, replica.snapshot = content[:4], content[4:]
        self._note(number, replica)

    def ended(self, replica: Replica) -> None:
        """Keep what lasts of a replica that has ended, and expect no more answers from it, nor any to it."""
        self._ended = lasting([self._ended, replica.snapshot])
        replica.snapshot = b"[]"
        for number, question in list(self._questions.items()):
            if question.asker is replica:
                del self._questions[number]
            else:
                self._note(number, replica)

    def _note(self, number: bytes, replica: Replica) -> None:
        if question := self._questions.get(number):
            question.waiting.discard(replica.number)
            if not question.waiting:
                self._finish(number)

    def _finish(self, number: bytes) -> None:
        question = self._questions.pop(number, None)
        if question is None:
            return
        self._live.set(len(self._board.live()))
        self._usage.measure()  # here, because the supervisor may have no thread: it forks
        own = snapshot([*self._usage.instruments(), self._live, self.restarts], self._usage.refresh)
        parts = [own, self._ended, *(replica.snapshot for replica in self._replicas if replica.channel is not None)]
        self._tell(question.asker, channel.SNAPSHOTS, question.name + pack(parts))
