"""What the system reports about a connection."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys

# Where `struct tcp_info` of Linux has tcpi_last_data_recv, in milliseconds, and tcpi_bytes_acked.
_LAST_DATA_RECEIVED = struct.Struct("=52xI")
_BYTES_ACKED = struct.Struct("=120xQ")
_INT = struct.Struct("=i")


def has_unread(transport: asyncio.BaseTransport) -> bool:
    """Whether something that the client has sent waits to be read; False where the system does not say."""
    return _queued(transport, "FIONREAD") > 0


def has_unsent(transport: asyncio.BaseTransport) -> bool:
    """Whether the client's system has not taken all that was sent; False where the system does not say."""
    return _queued(transport, "TIOCOUTQ") > 0


def _queued(transport: asyncio.BaseTransport, queue: str) -> int:
    """Bytes in a queue of the connection, by the name of the request in `termios`."""
    if sys.platform == "win32":
        return 0
    import fcntl  # not on all systems
    import termios

    try:
        descriptor = transport.get_extra_info("socket").fileno()
        (size,) = _INT.unpack(fcntl.ioctl(descriptor, getattr(termios, queue), bytes(_INT.size)))
    except (AttributeError, OSError, ValueError, struct.error):
        return 0
    return int(size)


def unread_seconds(transport: asyncio.BaseTransport) -> float | None:
    """Seconds since the client last sent something; None where the system does not say."""
    milliseconds = _tcp_info(transport, _LAST_DATA_RECEIVED)
    return None if milliseconds is None else milliseconds / 1000


def acked_bytes(transport: asyncio.BaseTransport) -> int:
    """Bytes that the client's system has taken so far; 0 where the system does not say."""
    return _tcp_info(transport, _BYTES_ACKED) or 0


def _tcp_info(transport: asyncio.BaseTransport, field: struct.Struct) -> int | None:
    connection = transport.get_extra_info("socket")
    try:
        return int(field.unpack(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, field.size))[0])
    except (AttributeError, OSError, struct.error):
        return None
