"""Calls of the process that computes on a GPU: messages over a Unix socket, and arrays in shared memory.

A call is a batch of rows for one function. The caller writes them to memory that both processes share, and says so over
the socket; the results return in the same way. Nothing is pickled.
"""

from __future__ import annotations

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
_CALL = struct.Struct("<BI")
_CREDENTIALS = struct.Struct("3i")  # process, user, group
_MEMORY = b"m"
_ALIGNMENT = 64


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


def send_memory(connection: socket.socket, descriptor: int) -> None:
    """Hand over the memory of a caller."""
    socket.send_fds(connection, [_MEMORY], [descriptor])


def receive_memory(connection: socket.socket) -> int:
    """The descriptor of the memory of a caller. Raises OSError if none arrives."""
    data, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    if data != _MEMORY or len(descriptors) != 1:
        raise OSError("the caller sent no memory")
    return descriptors[0]


def is_own(connection: socket.socket) -> bool:
    """Whether the peer runs as the same user."""
    _, user, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return bool(user == os.geteuid())


def pack_call(function: int, count: int) -> bytes:
    """The message that `count` rows wait for function number `function`."""
    return _CALL.pack(function, count)


def unpack_call(message: bytes) -> tuple[int, int]:
    """Function and count of a message. Raises struct.error if it is none."""
    function, count = _CALL.unpack(message)
    return function, count
