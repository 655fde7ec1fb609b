"""The open connections of a process, and which of them is closed for a new one."""

from __future__ import annotations

import heapq
import math
import time
from typing import Any, Protocol

from ..runtime.board import Seat
from ..runtime.listening import reserved
from .observability import log

# Connections that one look at all of them selects.
MOST_SELECTED = 64
# Seconds until the next look, for each connection, if the last one has found fewer. A look takes a twentieth of it.
LOOK_SECONDS = 6e-6
# Seconds between two lines of the log.
REPORT_SECONDS = 1.0


class Replaceable(Protocol):
    """A connection that may be closed for a new one."""

    @property
    def is_reserved(self) -> bool:
        """Whether it is one beyond the limit."""

    def may_close_at(self) -> float:
        """The time, by `time.monotonic`, from which it may be closed; infinity if it is in use."""

    def evict(self) -> bool:
        """Close it for another one. Returns False, and does not, if its client has just sent something."""


class Connections(set[Any]):
    """The open connections of a server, which report to the board when they close.

    All of them are `Replaceable`.

    Args:
        seat: counts those that are closed.
        limit: open connections of all replicas, beyond which connections are reserved.
    """

    def __init__(self, seat: Seat, limit: int) -> None:
        super().__init__()
        self._seat = seat
        self._share = math.ceil(reserved(limit) / seat.board.replicas)
        self._reserved: list[Replaceable] = []
        self._selected: list[tuple[float, int, Replaceable]] = []
        self._next_look = 0.0
        self._next_report = 0.0
        self._closed = 0

    def add(self, connection: Any) -> None:
        """Add a connection. One beyond the limit takes the place of the one that has been unused for longest."""
        super().add(connection)
        if connection.is_reserved:
            if len(self._reserved) >= self._share:
                any(one.evict() for one in self._reserved if one.may_close_at() < math.inf)  # the first that can
            self._reserved.append(connection)

    def discard(self, connection: Any) -> None:
        """Remove a connection that was lost."""
        if connection in self:
            super().discard(connection)
            self._seat.close_connection()
            if connection.is_reserved:
                self._reserved.remove(connection)

    def make_room(self) -> bool:
        """Close the connection that has been unused for longest, so that a new one can take its place.

        Returns False, and closes none, if all are in use or have just been used.
        """
        return self._close_selected() or (self._look() and self._close_selected())

    def _close_selected(self) -> bool:
        """Close the first of the selected connections that may be closed. Returns whether there was one."""
        while self._selected:
            due, _, connection = self._selected.pop()
            if connection.may_close_at() == due and connection.evict():
                self._report()
                return True
        return False

    def _look(self) -> bool:
        """Select the connections that may be closed. Returns whether there are any."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        found = (
            (connection.may_close_at(), id(connection), connection) for connection in self if not connection.is_reserved
        )
        self._selected = heapq.nsmallest(MOST_SELECTED, (entry for entry in found if entry[0] <= now))
        self._selected.reverse()
        if len(self._selected) < MOST_SELECTED:
            self._next_look = now + LOOK_SECONDS * len(self)
        return bool(self._selected)

    def _report(self) -> None:
        self._closed += 1
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + REPORT_SECONDS
            log.warning("connections closed", reason="LATENTSERVE_CONNECTIONS is reached", closed=self._closed)
            self._closed = 0
