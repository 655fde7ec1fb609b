"""The connections that replicas have lost, in counts of one moment, which may be compared."""

from __future__ import annotations

import time

from .board import Board

# Seconds in which all replicas report what they have lost at one moment. A busy one is late by a few slices of work.
SETTLE_SECONDS = 0.25
# Seconds after which earlier counts are taken although connections are lost all the time.
MOST_SECONDS = 4 * SETTLE_SECONDS


class Losses:
    """Counts of the lost connections of each replica, once all replicas have reported theirs.

    If many connections end at once, the first replica to report would seem to be the least busy one. It would get all
    new connections until the others have reported. Its losses therefore count together with those of the others.

    Args:
        board: of the replicas, which report to it.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._settled = [0] * board.replicas
        self._later = self._settled
        self._later_at = 0.0

    def settled(self) -> list[int]:
        """The lost connections of each replica."""
        now = time.monotonic()
        closed = [self._board.closed(replica) for replica in range(self._board.replicas)]
        if now - self._board.last_loss() >= SETTLE_SECONDS:
            self._settled = self._later = closed
            self._later_at = now
        elif now - self._later_at >= MOST_SECONDS:
            self._settled, self._later, self._later_at = self._later, closed, now
        # The count of a replica that was started again began at 0.
        return list(map(min, self._settled, closed))
