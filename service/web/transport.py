"""What the system reports about a connection."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys

# Where `struct tcp_info` of Linux has tcpi_last_data_recv, in milliseconds.
_LAST_DATA_RECEIVED = struct.Struct("=52xI")


_INT = struct.Struct("=i")


def has_unread(transport: asyncio.BaseTransport) -> bool:
    """Whether something that the client has sent waits to be read; False where the system does not say."""
    if sys.platform == "win32":
        return False
    import fcntl  # not on all systems
    import termios

    try:
        answer = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.FIONREAD, bytes(_INT.size))
        return bool(_INT.unpack(answer)[0])
    except (AttributeError, OSError, ValueError, struct.error):
        return False


def unread_seconds(transport: asyncio.BaseTransport) -> float | None:
    """Seconds since the client last sent something; None where the system does not say."""
    connection = transport.get_extra_info("socket")
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED.size)
        (milliseconds,) = _LAST_DATA_RECEIVED.unpack(info)
    except (AttributeError, OSError, struct.error):
        return None
    return float(milliseconds) / 1000
