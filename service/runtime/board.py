"""The board: numbers that the replicas of one service share, in memory that survives a fork.

Every replica has a row and writes only to it. A number is a float of eight bytes, which processors write at once, so no
lock is needed. The supervisor resets the row of a replica that has ended.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Sequence
from zlib import crc32

# Seconds after which a replica that does not report is taken to be busy or stopped.
FRESH_SECONDS = 5.0

# Columns for the bodies of callers. Two callers seldom have the same.
CALLERS = 1024

# The columns that do not depend on the lanes and engines.
_LIVE, _CLOSED, _LOSS, _BEAT, _STUCK, _BODY_BYTES = range(6)
_FIXED = 6


class Board:
    """The rows of `replicas`, with a queue for each of `lanes` and a readiness for each of `engines`."""

    def __init__(self, replicas: int, lanes: Sequence[str], engines: Sequence[str]) -> None:
        self.replicas = replicas
        self._queue = {name: _FIXED + 2 * index for index, name in enumerate(lanes)}
        self._ready = {name: _FIXED + 2 * len(lanes) + index for index, name in enumerate(engines)}
        self._callers = _FIXED + 2 * len(lanes) + len(engines)
        columns = self._callers + CALLERS
        memory = mmap.mmap(-1, 8 * (columns * replicas + 1))
        self._numbers: memoryview[float] = memoryview(memory).cast("d")
        self._draining = columns * replicas

    def _column(self, column: int) -> memoryview[float]:
        """The numbers of all replicas in one column."""
        return self._numbers[column * self.replicas : (column + 1) * self.replicas]

    def seat(self, replica: int) -> Seat:
        """What replica number `replica` reads and writes."""
        return Seat(self, replica)

    # -- for the supervisor -------------------------------------------------------------------------------------

    def reset(self, replica: int) -> None:
        """Forget everything about a replica that has ended."""
        for column in range(self._draining // self.replicas):
            self._column(column)[replica] = 0.0

    def closed(self, replica: int) -> int:
        """Connections that the replica has closed."""
        return int(self._column(_CLOSED)[replica])

    def last_loss(self) -> float:
        """The time, by `time.monotonic`, at which a running replica last closed a connection; 0 if none has."""
        return max(self._column(_LOSS))

    def is_live(self, replica: int) -> bool:
        """Whether the replica takes connections."""
        return self._column(_LIVE)[replica] > 0

    def is_stuck(self, replica: int) -> bool:
        """Whether a lane of the replica has died or stalled."""
        return self._column(_STUCK)[replica] > 0

    def silent_seconds(self, replica: int) -> float:
        """Seconds since the last report of a running replica, or since its start."""
        return time.monotonic() - self.last_beat(replica)

    def last_beat(self, replica: int) -> float:
        """The time, by `time.monotonic`, of the last report of a running replica, or of its start."""
        return self._column(_BEAT)[replica]

    def can_serve(self, replica: int) -> bool:
        """Whether the replica takes connections, has reported lately, and none of its lanes is stuck."""
        return self.is_live(replica) and not self.is_stuck(replica) and self.silent_seconds(replica) < FRESH_SECONDS

    # -- for all ------------------------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether the service will stop."""
        return self._numbers[self._draining] > 0

    def drain(self) -> None:
        """Note that the service will stop."""
        self._numbers[self._draining] = 1.0

    def live(self) -> list[int]:
        """The replicas that take connections."""
        return [replica for replica, flag in enumerate(self._column(_LIVE)) if flag]

    def are_ready(self) -> bool:
        """Whether all engines are ready in all replicas."""
        return all(all(self._column(column)) for column in self._ready.values())

    def is_ready(self, engine: str) -> bool:
        """Whether the engine is ready in every replica that takes connections, and in at least one."""
        ready, live = self._column(self._ready[engine]), self.live()
        return bool(live) and all(ready[replica] for replica in live)


class Seat:
    """One replica's view of the board: its own row to write, and the sums over all rows to read."""

    def __init__(self, board: Board, replica: int) -> None:
        self.board = board
        self.replica = replica
        self._bodies = board._column(_BODY_BYTES)
        self._closed = board._column(_CLOSED)
        self._loss = board._column(_LOSS)

    def join(self) -> None:
        """Note that this replica takes connections."""
        self.beat(stuck=False)
        self.board._column(_LIVE)[self.replica] = 1.0

    def beat(self, *, stuck: bool) -> None:
        """Report that the event loop runs, and whether a lane is stuck."""
        self.board._column(_STUCK)[self.replica] = float(stuck)
        self.board._column(_BEAT)[self.replica] = time.monotonic()

    def close_connection(self) -> None:
        """Count one closed connection."""
        self._loss[self.replica] = time.monotonic()
        self._closed[self.replica] += 1

    def set_ready(self, engine: str) -> None:
        """Note that the engine is ready in this replica."""
        self.board._column(self.board._ready[engine])[self.replica] = 1.0

    def add_body_bytes(self, size: int, caller: str) -> None:
        """Count bytes of bodies of a caller that this replica holds; negative when it lets go of them."""
        self._bodies[self.replica] += size
        self._bodies_of(caller)[self.replica] += size

    def body_bytes(self) -> int:
        """Bytes of the bodies that all replicas hold."""
        return int(sum(self._bodies))

    def caller_bytes(self, caller: str) -> int:
        """Bytes of the bodies of a caller that all replicas hold, with those of others that share its column."""
        return int(sum(self._bodies_of(caller)))

    def _bodies_of(self, caller: str) -> memoryview[float]:
        return self.board._column(self.board._callers + crc32(caller.encode()) % CALLERS)

    def reporter(self, lane: str) -> Callable[[int, float], None]:
        """A function that reports the jobs that wait in a lane of this replica, and their cost, to the others."""
        if self.board.replicas == 1:
            return lambda items, cost: None
        column, own = self.board._queue[lane], self.replica
        all_items, all_costs = self.board._column(column), self.board._column(column + 1)

        def report(items: int, cost: float) -> None:
            all_items[own], all_costs[own] = items, cost

        return report

    def elsewhere(self, lane: str) -> Callable[[], tuple[int, float]]:
        """A function that returns the jobs that wait in the same lane of all other replicas, and their cost."""
        if self.board.replicas == 1:
            return lambda: (0, 0.0)
        column, own = self.board._queue[lane], self.replica
        items, costs = self.board._column(column), self.board._column(column + 1)
        return lambda: (int(sum(items) - items[own]), max(0.0, sum(costs) - costs[own]))
