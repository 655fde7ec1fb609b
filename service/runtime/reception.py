"""The connection dispatcher: it accepts connections, and passes each to the least busy replica."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Sequence

from .board import Board
from .channel import send_connection
from .listening import ALL, BURST, Refusals, accept, most
from .losses import Losses
from .replica import Replica

# Seconds until a connection that no replica has taken is offered again.
RETRY_SECONDS = 0.01


class Reception:
    """Takes the connections of `listeners` while a replica of `replicas` serves; until then they wait in the system.

    Args:
        listeners: sockets that listen.
        replicas: the replicas.
        board: the board of the replicas.
        connections: open connections of all replicas, beyond which some serve probes alone, and others are refused.
        refusal: the bytes of the answer to such a connection.
        selector: calls the `data` of the listeners when connections wait.
        after: calls a function after a number of seconds.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        replicas: Sequence[Replica],
        board: Board,
        connections: int,
        refusal: bytes,
        selector: selectors.BaseSelector,
        after: Callable[[float, Callable[[], None]], None],
    ) -> None:
        self._listeners = listeners
        self._replicas = replicas
        self._board = board
        self._losses = Losses(board)
        self._connections = connections
        self._most = most(connections)
        self._refusals = Refusals(refusal)
        self._selector = selector
        self._after = after
        self._next: tuple[socket.socket, bool] | None = None
        self._turn = 0
        self._is_open = False
        self._is_closed = False

    def update(self) -> None:
        """Begin to take connections if a replica takes them, and pause if none does. Call this when that may change."""
        self._refusals.close_due()
        wanted = not self._is_closed and self._next is None and bool(self._by_load())
        if wanted == self._is_open:
            return
        self._is_open = wanted
        for listener in self._listeners:
            if wanted:
                self._selector.register(listener, selectors.EVENT_READ, self._acceptor(listener))
            else:
                self._selector.unregister(listener)

    def close(self) -> None:
        """Hand over all connections that wait, and take no more. Refuse those that no replica takes."""
        self._is_closed = True
        self._retry()
        for listener in self._listeners:
            self._accept(listener, ALL)
        self.update()
        # Clients still read their refusals.
        for listener in self._listeners:
            listener.close()

    def close_copies(self) -> None:
        """Close the sockets of this process. Those of the process that it was forked from remain open."""
        for listener in self._listeners:
            listener.close()
        if self._next is not None:
            self._next[0].close()
        self._refusals.close()

    def _acceptor(self, listener: socket.socket) -> Callable[[int], None]:
        return lambda _: self._accept(listener)

    def _accept(self, listener: socket.socket, count: int = BURST) -> None:
        open_connections = sum(replica.open_connections for replica in self._replicas)
        for connection in accept(listener, count):
            is_reserved = open_connections >= self._connections
            if open_connections >= self._most:
                self._refusals.refuse(connection)
            elif self._hand_over(connection, is_reserved):
                open_connections += 1
            elif self._is_closed:
                self._refusals.refuse(connection)
            else:  # all queues are full: this connection is the next, and the others wait in the system
                self._next = connection, is_reserved
                self._after(RETRY_SECONDS, self._retry)
                self.update()
                return

    def _retry(self) -> None:
        """Hand over the connection that no replica has taken."""
        if self._next is None:
            return
        if self._hand_over(*self._next):
            self._next = None
            self.update()
        elif self._is_closed:
            self._refusals.refuse(self._next[0])
            self._next = None
        else:
            self._after(RETRY_SECONDS, self._retry)

    def _hand_over(self, connection: socket.socket, is_reserved: bool) -> bool:
        """Give the connection to the least busy replica that takes it; False if none does."""
        for replica in self._by_load():
            if replica.channel is None:
                continue
            try:
                send_connection(replica.channel.connections, connection, is_reserved)
            except OSError:  # its queue is full, or it has just ended
                continue
            connection.close()  # the replica has a copy of its own
            replica.hand_over()
            self._turn = replica.number + 1
            return True
        return False

    def _by_load(self) -> list[Replica]:
        """The replicas that take connections: those that work before those that are stuck, then by open connections.

        Equal ones take turns. Connections that have just closed still count.
        """
        count, lost = len(self._replicas), self._losses.settled()
        return sorted(
            (replica for replica in self._replicas if self._board.is_live(replica.number) and not replica.is_ending),
            key=lambda replica: (
                not self._board.can_serve(replica.number),
                replica.handed - lost[replica.number],
                (replica.number - self._turn) % count,
            ),
        )
