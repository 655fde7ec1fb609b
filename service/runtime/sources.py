"""Where the connections of a process come from: its own listening sockets, or its supervisor (`supervised`)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from .board import Seat
from .listening import ALL, BURST, Refusals, accept, most

Adopt = Callable[[socket.socket, bool], None]
"""Takes a connection, and whether it is reserved for probes."""
Stop = Callable[[bool], None]
"""Stops the server; True interrupts running requests."""


class Source(Protocol):
    """Where connections come from."""

    def attach(self, stop: Stop) -> None:
        """Call `stop` from now on when the process is to stop. Called on the event loop."""

    def open(self, adopt: Adopt) -> None:
        """Call `adopt` with each connection from now on."""

    def close(self) -> None:
        """Call `adopt` with the connections that wait, and then no more."""


class Listeners:
    """The connections of a process that serves alone: it listens itself.

    Args:
        listeners: sockets that listen.
        seat: counts the connections.
        connections: open connections, beyond which some serve probes alone, and others are refused.
        refusal: the bytes of the answer to such a connection.
    """

    def __init__(self, listeners: Sequence[socket.socket], seat: Seat, connections: int, refusal: bytes) -> None:
        self._listeners = listeners
        self._seat = seat
        self._connections = connections
        self._most = most(connections)
        self._refusals = Refusals(refusal)
        self._opened = 0

    def attach(self, stop: Stop) -> None:
        """Nothing: signals stop this process."""

    def open(self, adopt: Adopt) -> None:
        """Call `adopt` with each connection from now on."""
        self._adopt = adopt
        for listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def close(self) -> None:
        """Take the connections that wait, and then no more."""
        for listener in self._listeners:
            if asyncio.get_running_loop().remove_reader(listener):
                self._accept(listener, ALL)
            listener.close()
        self._refusals.close()

    def _accept(self, listener: socket.socket, count: int = BURST) -> None:
        self._refusals.close_due()
        for connection in accept(listener, count):
            open_connections = self._opened - self._seat.board.closed(self._seat.replica)
            if open_connections >= self._most:
                self._refusals.refuse(connection)
            else:
                self._opened += 1
                self._adopt(connection, open_connections >= self._connections)
