"""Calls of the process that computes on a GPU: messages over a Unix socket, and arrays in shared memory.

A call is a batch of rows for one function. The caller writes them to memory that both processes share, and sends a
message over the socket. The results return in the same way. Nothing is pickled. A caller first sends a key that only
the service's processes know. The memory of another program could shrink, and the process would die.
"""

from __future__ import annotations

import hmac
import mmap
import os
import socket
import struct
from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Maximum rows of one call.
ROWS = 256
# Answers to a call.
DONE, FAILED = b"d", b"f"
_CALL = struct.Struct("<BII")
_REPLY = struct.Struct("<cI")
_CREDENTIALS = struct.Struct("3i")  # process, user, group
_ALIGNMENT = 64
# Bytes of an error's text in an answer.
_REASON_BYTES = 1024


class Function(NamedTuple):
    """The shapes of a function of rows. Row k of its result depends on row k of its input alone."""

    row: tuple[int, ...]
    """Shape of an input row, which is float32."""
    result: tuple[int, ...]
    """Shape of a row of the result."""
    dtype: type[np.generic]
    """Type of the result."""


class Views(NamedTuple):
    """The rows of one function in the shared memory."""

    inputs: NDArray[np.float32]
    """(256, *row)"""
    results: NDArray[Any]
    """(256, *result)"""


class Memory:
    """The shared memory of one caller: it has room for a call of any of `functions`."""

    def __init__(self, descriptor: int, functions: Sequence[Function]) -> None:
        inputs, total = _sizes(functions)
        self._memory = mmap.mmap(descriptor, total)
        self._views = [
            Views(
                _view(self._memory, 0, function.row, np.float32),
                _view(self._memory, inputs, function.result, function.dtype),
            )
            for function in functions
        ]

    def __getitem__(self, function: int) -> Views:
        """The rows of function number `function`."""
        return self._views[function]


def new_memory(functions: Sequence[Function]) -> int:
    """The descriptor of new memory for calls of `functions`."""
    descriptor = os.memfd_create("latentserve rows", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, _sizes(functions)[1])
    return descriptor


def _sizes(functions: Sequence[Function]) -> tuple[int, int]:
    """Bytes of the inputs, and of inputs and results."""
    inputs = _aligned(max(4 * ROWS * prod(function.row) for function in functions))
    results = max(np.dtype(function.dtype).itemsize * ROWS * prod(function.result) for function in functions)
    return inputs, inputs + _aligned(results)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _view(memory: mmap.mmap, offset: int, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    return np.frombuffer(memory, dtype, ROWS * prod(shape), offset).reshape(ROWS, *shape)


def listen() -> socket.socket:
    """A socket that listens at a name which the system chooses. Only processes of this machine reach it.

    It does not block.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind("")  # in the abstract namespace of Linux, which needs no file
    listener.listen(socket.SOMAXCONN)
    listener.setblocking(False)
    return listener


def refuse(listener: socket.socket) -> None:
    """Close the connections that wait to be accepted."""
    for _ in range(socket.SOMAXCONN):  # strangers may connect as fast as this closes
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.close()


def send_memory(connection: socket.socket, descriptor: int, key: bytes) -> None:
    """Hand over the memory of a caller that knows `key`."""
    socket.send_fds(connection, [key], [descriptor])


def receive_memory(connection: socket.socket, key: bytes) -> int:
    """The descriptor of the memory of a caller. Raises OSError if none arrives, or the caller does not know `key`."""
    sent, descriptors, _, _ = socket.recv_fds(connection, len(key) + 1, 1)
    if descriptors and hmac.compare_digest(sent, key):
        return descriptors[0]
    for descriptor in descriptors:
        os.close(descriptor)
    raise OSError("the caller sent no memory")


def is_own(connection: socket.socket) -> bool:
    """Whether the peer runs as the same user."""
    _, user, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return bool(user == os.geteuid())


def pack_call(function: int, count: int, number: int) -> bytes:
    """The message that `count` rows wait for function number `function`. The reply has the `number` of the call."""
    return _CALL.pack(function, count, number)


def unpack_call(message: bytes) -> tuple[int, int, int]:
    """Function, count and number of a call. Raises struct.error if `message` is not a call."""
    function, count, number = _CALL.unpack(message)
    return function, count, number


def pack_reply(outcome: bytes, number: int, reason: str = "") -> bytes:
    """The answer to the call with this number: DONE, or FAILED and the reason."""
    return _REPLY.pack(outcome, number) + reason.encode(errors="replace")[:_REASON_BYTES]


def unpack_reply(message: bytes) -> tuple[bytes, int, str]:
    """Outcome, number and reason of an answer. Raises struct.error if `message` is not an answer."""
    outcome, number = _REPLY.unpack_from(message)
    return outcome, number, message[_REPLY.size :].decode(errors="replace")
