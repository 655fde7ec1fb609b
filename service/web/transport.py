"""The transport of a connection, which completes the head of an answer and sends it with the start of its body."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from .heads import completed

# Where `struct tcp_info` of Linux has tcpi_last_data_recv, in milliseconds.
_LAST_DATA_RECEIVED = struct.Struct("=52xI")


class JoiningTransport(asyncio.Transport):
    """Writes to `transport`, but keeps the head of an answer until the first part of its body.

    The head then also has the fixed headers.

    Uvicorn writes both one after the other, and each write is a system call and a packet of its own, which for a small
    answer take longer than the rest of its way out.

    Args:
        transport: of the connection.
        begins_answer: whether the bytes that are being written are the head of an answer.
        lingers: called when the connection is to be closed; whether it is closed later, by another call of `close`.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        begins_answer: Callable[[], bool],
        lingers: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self._transport = transport
        self._begins_answer = begins_answer
        self._lingers = lingers
        self._is_ending = False
        self._head: Any = b""

    def write(self, data: Any) -> None:
        """Write the bytes, and before them the head that was kept; or keep them, if they are one."""
        if self._head:
            data = b"".join((self._head, data))
            self._head = b""
        elif self._begins_answer():
            self._head = completed(data)
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Write the head that was kept, if any: its answer has no body, or ends here."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Write the head that was kept, and close the connection, unless it lingers."""
        self.flush()
        if self._is_ending or not self._lingers():
            self._transport.close()
        self._is_ending = True

    def write_eof(self) -> None:
        """Write the head that was kept, and end this direction."""
        self.flush()
        self._transport.write_eof()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return self._is_ending or self._transport.is_closing()

    def can_write_eof(self) -> bool:
        """Whether one direction can end."""
        return self._transport.can_write_eof()

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection by this name."""
        return self._transport.get_extra_info(name, default)


def unread_seconds(transport: asyncio.BaseTransport) -> float | None:
    """Seconds since the client last sent something; None where the system does not say."""
    connection = transport.get_extra_info("socket")
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED.size)
        (milliseconds,) = _LAST_DATA_RECEIVED.unpack(info)
    except (AttributeError, OSError, struct.error):
        return None
    return float(milliseconds) / 1000
