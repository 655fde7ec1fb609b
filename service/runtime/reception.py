"""The reception: it takes connections, and gives each to the least busy replica."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Sequence

from .board import Board
from .channel import send_connection
from .listening import ALL, Refusals, accept
from .replica import Replica


class Reception:
    """Takes the connections of `listeners` while a replica of `replicas` serves; until then they wait in the system.

    Args:
        listeners: sockets that listen.
        replicas: the replicas.
        board: the board of the replicas.
        max_connections: open connections of all replicas, beyond which one is refused.
        refusal: the bytes of the answer to such a connection.
        selector: calls the `data` of the listeners when connections wait.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        replicas: Sequence[Replica],
        board: Board,
        max_connections: int,
        refusal: bytes,
        selector: selectors.BaseSelector,
    ) -> None:
        self._listeners = listeners
        self._replicas = replicas
        self._board = board
        self._max_connections = max_connections
        self._refusals = Refusals(refusal)
        self._selector = selector
        self._turn = 0
        self._is_open = False
        self._is_closed = False

    def update(self) -> None:
        """Begin to take connections if a replica serves, and pause if none does. Call this when that may change."""
        self._refusals.close_due()
        wanted = not self._is_closed and bool(self._board.live())
        if wanted == self._is_open:
            return
        self._is_open = wanted
        for listener in self._listeners:
            if wanted:
                self._selector.register(listener, selectors.EVENT_READ, self._acceptor(listener))
            else:
                self._selector.unregister(listener)

    def close(self) -> None:
        """Hand over all connections that wait, and take no more."""
        for listener in self._listeners if self._is_open else ():
            self._accept(listener, ALL)
        self._is_closed = True
        self.update()
        self.close_copies()

    def close_copies(self) -> None:
        """Close the sockets of this process. Those of the process that it was forked from remain open."""
        for listener in self._listeners:
            listener.close()
        self._refusals.close()

    def _acceptor(self, listener: socket.socket) -> Callable[[int], None]:
        return lambda _: self._accept(listener)

    def _accept(self, listener: socket.socket, *most: int) -> None:
        open_connections = sum(replica.open_connections for replica in self._replicas)
        for connection in accept(listener, *most):
            if open_connections >= self._max_connections:
                self._refusals.refuse(connection)
                continue
            with connection:  # the replica has a copy of its own; without one, the connection is closed
                open_connections += self._hand_over(connection)

    def _hand_over(self, connection: socket.socket) -> bool:
        """Give the connection to the least busy replica that takes it; False if none does."""
        for replica in self._by_load():
            if replica.channel is None:
                continue
            try:
                send_connection(replica.channel.connections, connection)
            except OSError:  # its queue is full, or it has just ended
                continue
            replica.hand_over()
            self._turn = replica.number + 1
            return True
        return False

    def _by_load(self) -> list[Replica]:
        """The replicas that take connections: those that work before those that are stuck, then by open connections.

        Equal ones take turns.
        """
        count = len(self._replicas)
        return sorted(
            (replica for replica in self._replicas if self._board.is_live(replica.number)),
            key=lambda replica: (
                replica.is_ending or not self._board.can_serve(replica.number),
                replica.open_connections,
                (replica.number - self._turn) % count,
            ),
        )
