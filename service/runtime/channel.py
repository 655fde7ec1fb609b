"""The channel between the supervisor and one replica: connections in one direction, messages in both.

Messages are kind and content, both bytes: nothing is pickled. Neither side ever waits for the other.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

_HEAD = 5
_READ_BYTES = 1 << 16

# Kinds of messages from a replica.
SERVING = b"s"
"""The replica takes connections."""
REFUSED = b"r"
"""The replica cannot start; the content is the reason."""
WANTED = b"w"
"""The replica asks for the snapshots of all processes; the content identifies the question."""
# Kinds in both directions.
SNAPSHOT = b"n"
"""From the supervisor: the question. From a replica: its snapshot of metrics, after the four bytes of the question."""
# Kinds of messages from the supervisor.
SNAPSHOTS = b"a"
"""The four bytes of the question, and the snapshots of all processes."""
STOP = b"x"
"""Finish the running requests, and end."""
FORCE = b"f"
"""End now."""
_CONNECTION, _RESERVED = b"c", b"r"


class Pair(NamedTuple):
    """The ends of one channel that one process has."""

    connections: socket.socket
    messages: Messages

    def close(self) -> None:
        """Close both sockets."""
        self.connections.close()
        self.messages.socket.close()


def open_channel() -> tuple[Pair, Pair]:
    """A new channel: the supervisor's end and the replica's."""
    # Packets keep connections apart; messages may be larger than a packet.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    our_messages, their_messages = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in (ours, theirs, our_messages, their_messages):
        end.setblocking(False)
    return Pair(ours, Messages(our_messages)), Pair(theirs, Messages(their_messages))


def send_connection(channel: socket.socket, connection: socket.socket, is_reserved: bool = False) -> None:
    """Hand a connection over, one for probes if it `is_reserved`. The caller then closes its own copy.

    Raises:
        BlockingIOError: the replica has not taken the earlier ones yet.
        OSError: the replica has ended.
    """
    socket.send_fds(channel, [_RESERVED if is_reserved else _CONNECTION], [connection.fileno()])


def receive_connections(channel: socket.socket) -> Iterator[tuple[socket.socket | None, bool]]:
    """The connections that have been handed over, and whether each is reserved; None for one that the system closed.

    The system closes a connection that arrives while this process has no free descriptor.

    Raises:
        EOFError: the supervisor has ended.
    """
    while True:
        try:
            data, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        except BlockingIOError:
            return
        except ConnectionError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        yield socket.socket(fileno=descriptors[0]) if descriptors else None, data == _RESERVED


class Messages:
    """Messages over one stream. What cannot be sent at once waits here."""

    def __init__(self, stream: socket.socket) -> None:
        self.socket = stream
        self._received = bytearray()
        self._waiting = bytearray()

    def send(self, kind: bytes, content: bytes = b"") -> None:
        """Send as much of a message as the stream takes; `flush` sends the rest. It is lost if the peer has ended."""
        self._waiting += kind + len(content).to_bytes(_HEAD - 1, "big") + content
        self.flush()

    def flush(self) -> bool:
        """Send what waits. Returns whether nothing waits any more."""
        with suppress(BlockingIOError):
            try:
                while self._waiting:
                    del self._waiting[: self.socket.send(self._waiting)]
            except BlockingIOError:
                raise
            except OSError:  # the peer ended; reading reports it
                self._waiting.clear()
        return not self._waiting

    def receive(self) -> list[tuple[bytes, bytes]]:
        """All messages that have arrived completely.

        Raises:
            EOFError: the peer has ended, and all its messages have been returned.
        """
        ended = False
        while True:
            try:
                data = self.socket.recv(_READ_BYTES)
            except BlockingIOError:
                break
            except ConnectionError:
                data = b""
            if not data:
                ended = True
                break
            self._received += data
        found = []
        while len(self._received) >= _HEAD:
            end = _HEAD + int.from_bytes(self._received[1:_HEAD], "big")
            if len(self._received) < end:
                break
            found.append((bytes(self._received[:1]), bytes(self._received[_HEAD:end])))
            del self._received[:end]
        if ended and not found:
            raise EOFError
        return found


def pack(parts: list[bytes]) -> bytes:
    """Several byte strings as one."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def unpack(content: bytes) -> list[bytes]:
    """The byte strings that `pack` joined."""
    parts, start = [], 0
    while start < len(content):
        end = start + 4 + int.from_bytes(content[start : start + 4], "big")
        parts.append(content[start + 4 : end])
        start = end
    return parts
