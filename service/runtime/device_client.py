"""Calls of the process that computes on a GPU, from a replica."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceLost, InvalidInput
from .device_link import DONE, ROWS, Function, Memory, new_memory, pack_call, send_memory, unpack_reply
from .device_state import DeviceState

_REPLY_BYTES = 4096
_POLL_SECONDS = 0.01
# Seconds between the looks of a caller that waits whether the process has been given up.
_LOOK_SECONDS = 1
_NUMBER_BYTES = 4
_TIME = struct.Struct("@ll")  # seconds and microseconds


class DeviceLink(NamedTuple):
    """How to reach the process: its address and its state."""

    address: bytes
    state: DeviceState

    def has_device(self, beat: Callable[[], object]) -> bool:
        """Wait until it is known whether there is a GPU, and return that. Its process may have ended meanwhile.

        The supervisor starts the process again and again, and ends the service if it never starts. `beat` is called
        while this waits.

        Raises:
            InvalidInput: the device that was requested does not exist, or the service ends.
        """
        while not (self.state.is_found or self.state.is_unneeded):
            if self.state.reason:
                raise InvalidInput(self.state.reason)
            beat()
            time.sleep(_POLL_SECONDS)
        return self.state.is_found


class DeviceClient:
    """Calls functions of rows in another process. Several threads may call; each has a line of its own.

    Args:
        link: to the process.
        functions: the same as those of the process.
    """

    def __init__(self, link: DeviceLink, functions: Sequence[Function]) -> None:
        self._address, self._state = link
        self._functions = functions
        self._of_thread = threading.local()

    def __call__(self, function: int, rows: NDArray[np.float32]) -> NDArray[Any]:
        """Results (B, *result) of function number `function` for `rows` (B, *row).

        Raises:
            DeviceLost: the process has ended. Another one takes its place.
            RuntimeError: the computation failed.
        """
        shape = self._functions[function]
        results = np.empty((len(rows), *shape.result), shape.dtype)
        for start in range(0, len(rows), ROWS):
            self._exchange(function, rows[start : start + ROWS], results[start : start + ROWS])
        return results

    def _exchange(self, function: int, rows: NDArray[np.float32], results: NDArray[Any]) -> None:
        line: _Line | None = getattr(self._of_thread, "line", None)
        if line is not None and line.send(function, rows):
            self._take(line, function, results)
            return
        # The process is another one than at the last call of this thread, or this is the first call.
        self._drop(line)
        if not self._state.is_ready:
            raise _lost()
        try:
            line = self._of_thread.line = _Line(self._address, self._state, self._functions)
        except OSError as error:
            raise _lost() from error
        # The process may have ended before it accepted the connection. Then its state says so by now, or the supervisor
        # has yet to close the connection.
        if not (self._state.is_ready and line.send(function, rows)):
            self._drop(line)
            raise _lost()
        self._take(line, function, results)

    def _take(self, line: _Line, function: int, results: NDArray[Any]) -> None:
        reply = line.receive(function, results)
        if reply is None:
            self._drop(line)
            raise _lost()
        outcome, reason = reply
        if outcome != DONE:
            raise RuntimeError(f"the computation on the device failed: {reason}")

    def _drop(self, line: _Line | None) -> None:
        if line is not None:
            line.close()
            self._of_thread.line = None


class _Line:
    """The connection to one process, and the memory of one thread."""

    def __init__(self, address: bytes, state: DeviceState, functions: Sequence[Function]) -> None:
        self._state = state
        self._start = state.starts
        # Numbers begin anywhere, so that those of two lines differ.
        self._number = int.from_bytes(os.urandom(_NUMBER_BYTES), "little")
        descriptor = new_memory(functions)
        try:
            self._memory = Memory(descriptor, functions)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                self._socket.connect(address)
                # A timeout of Python's would cost a call of the system more for each message.
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIME.pack(_LOOK_SECONDS, 0))
                send_memory(self._socket, descriptor, state.key)
            except OSError:
                self._socket.close()
                raise
        finally:
            os.close(descriptor)

    def send(self, function: int, rows: NDArray[np.float32]) -> bool:
        """Ask for the results of `rows` (b, *row), b ≤ 256. Returns whether the process still exists."""
        self._memory[function].inputs[: len(rows)] = rows
        self._number = (self._number + 1) % 256**_NUMBER_BYTES
        try:
            self._socket.send(pack_call(function, len(rows), self._number))
        except OSError:
            return False
        return True

    def receive(self, function: int, results: NDArray[Any]) -> tuple[bytes, str] | None:
        """Wait for the results, and copy them to `results` (b, *result).

        Returns the outcome and the reason, or None if the process does not answer this call. The answer to another call
        may come: to one of a caller that died, whose descriptor this connection has in the process, or to one of this
        caller that an error interrupted.
        """
        try:
            outcome, number, reason = unpack_reply(self._message())
        except (OSError, struct.error):
            return None
        if number != self._number:
            return None
        results[:] = self._memory[function].results[: len(results)]
        return outcome, reason

    def _message(self) -> bytes:
        """The next message. Raises OSError if none comes any more."""
        while True:
            try:
                return self._socket.recv(_REPLY_BYTES)
            except BlockingIOError:
                # A process that was killed keeps its connections until it ends, which its driver may prevent.
                if not self._state.is_ready or self._state.starts != self._start:
                    raise

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _lost() -> DeviceLost:
    return DeviceLost("the process that computes on the GPU has ended, and is replaced; try again", retry_after=5)
