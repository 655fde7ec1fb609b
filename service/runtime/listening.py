"""Listening sockets: one address is bound once, and connections beyond a limit are refused."""

from __future__ import annotations

import errno
import math
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ..errors import LatentserveError

BACKLOG = 2048
# Connections that are taken in one go, so that signals and messages are not delayed for long.
BURST = 64
# The most that can wait at one moment.
ALL = BACKLOG + 1
# Errors of accept() that mean that the process or the system has no free descriptor or memory.
NO_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# Errors of accept() that belong to one connection, which was lost while it waited; see accept(2) of Linux.
LOST = {
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EPROTO,
    errno.ETIMEDOUT,
}
# Errors of a socket or its address that mean that this machine does not have it.
ABSENT = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
# Probes are sent to a client that is silent for a minute. Its connection is lost after three probes without a reply. It
# is also lost if the client takes none of its answer for two minutes (milliseconds).
KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 20, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 120_000}
# A client that still sends its request needs a moment to read the refusal: the socket is closed later.
LINGER_SECONDS = 1.0
MOST_LINGERING = 256
# Connections beyond the limit that serve probes alone, so that monitoring still works.
RESERVED = 32


class CannotListen(LatentserveError):
    """The address is in use, or does not exist on this machine."""


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on all addresses of `host`; port 0 takes a free one.

    A name may have addresses that this machine lacks, such as that of IPv6; one that it has is enough. Two services
    cannot listen on one port, because SO_REUSEPORT is not set.

    Raises:
        CannotListen: an address is in use, or `host` is not an address of this machine.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CannotListen(f"{host}: {error.strerror or error}") from error
    sockets: list[socket.socket] = []
    missing = CannotListen(f"{host}: no address")
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            listener = _bind(family, address, port)
        except OSError as error:
            reason = "address already in use" if error.errno == errno.EADDRINUSE else error.strerror
            missing = CannotListen(f"{address[0]}:{port}: {reason}")
            if error.errno in ABSENT:
                continue
            for other in sockets:
                other.close()
            raise missing from error
        sockets.append(listener)
        port = port or listener.getsockname()[1]
    if not sockets:
        raise missing
    return sockets


def _bind(family: socket.AddressFamily, address: tuple[Any, ...], port: int) -> socket.socket:
    """A socket that listens on one address. Raises OSError."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Allows a restart while closed connections linger; a socket that listens is still refused.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Every connection inherits these.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEP_ALIVE.items():
            if hasattr(socket, name):  # not on all systems
                listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        listener.bind((address[0], port, *address[2:]))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def address_of(sockets: list[socket.socket]) -> str:
    """The first address and its port, as in a URL."""
    host, port, *_ = sockets[0].getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def accept(listener: socket.socket, most: int = BURST) -> Iterator[socket.socket]:
    """At most `most` of the connections that wait."""
    for _ in range(most):
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in NO_RESOURCES:
                time.sleep(0.01)  # the connection waits, and a busy loop would not help
                return
            if isinstance(error, ConnectionError) or error.errno in LOST:
                continue
            raise
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def reserved(connections: int) -> int:
    """The connections beyond a limit of `connections` that are reserved for probes."""
    return min(RESERVED, math.ceil(connections / 4))


def most(connections: int) -> int:
    """The most connections at a limit of `connections`: reserved ones take the place of others, which still close."""
    return connections + 2 * reserved(connections)


class Refusals:
    """Answers connections beyond the limit with `answer`, and closes them a moment later."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._lingering: deque[tuple[float, socket.socket]] = deque()

    def refuse(self, connection: socket.socket) -> None:
        """Answer and close one connection."""
        with suppress(OSError):
            connection.send(self._answer)
            connection.shutdown(socket.SHUT_WR)
        self._lingering.append((time.monotonic() + LINGER_SECONDS, connection))
        self.close_due()

    def close_due(self) -> None:
        """Close the connections whose moment has passed, and the oldest if there are too many."""
        now = time.monotonic()
        while self._lingering and (self._lingering[0][0] <= now or len(self._lingering) > MOST_LINGERING):
            self._lingering.popleft()[1].close()

    def close(self) -> None:
        """Close all."""
        while self._lingering:
            self._lingering.popleft()[1].close()


def raise_descriptor_limit(least: int) -> float:
    """Allow this process, and those that it starts, `least` open files, if the system's hard limit does.

    Returns the limit then.
    """
    if sys.platform == "win32":
        return math.inf
    import resource  # not on all systems

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = least if hard == resource.RLIM_INFINITY else min(least, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else soft


def connections_within(limit: float, wanted: int, spare: int) -> int:
    """Connections of one process that may open `limit` files: `wanted`, or fewer, so that `spare` or half are left."""
    return wanted if wanted + spare <= limit else max(1, int(max(limit - spare, limit / 2)))
