"""The process that computes on a GPU for all replicas.

Processes that share a GPU take turns on it, and each turn takes about a millisecond. One process that computes for all
of them has the whole GPU. It forms one batch of the calls of all replicas at a time.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from .device_link import DONE, FAILED, ROWS, Function, Memory, Views, is_own, pack_reply, receive_memory, unpack_call
from .device_state import THREADS, DeviceState
from .forking import end_now

# Rows that are computed together, at most. The others wait for the next round.
ROUND_ROWS = 1024
# Seconds between two reports of activity of a process without calls.
BEAT_SECONDS = 0.5
_MESSAGE_BYTES = 64


class _Call(NamedTuple):
    """Rows that wait for a function, and where their results belong."""

    connection: socket.socket
    function: int
    rows: int
    number: int
    views: Views


class DeviceServer:
    """Answers the calls that arrive at `listener`.

    Args:
        listener: as of `device_link.listen`.
        functions: the shapes of the functions.
        compute: the functions; each takes rows (B, *row), and returns (B, *result). They are called by several threads.
        state: where to report.
        computes: whether the device still computes; called after an error. If it does not, the process ends.
    """

    def __init__(
        self,
        listener: socket.socket,
        functions: Sequence[Function],
        compute: Sequence[Callable[[NDArray[np.float32]], NDArray[Any]]],
        state: DeviceState,
        computes: Callable[[], bool],
    ) -> None:
        self._functions = functions
        self._compute = compute
        self._state = state
        self._computes = computes
        self._listener = listener
        self._waiting: deque[_Call] = deque()
        self._collecting = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)

    def run(self) -> NoReturn:
        """Answer calls until the process ends. While one thread waits for the device, another prepares a batch."""
        for number in range(1, THREADS):
            threading.Thread(target=self._serve, args=(number,), daemon=True).start()
        self._serve(0)
        raise AssertionError("the process has ended")

    def _serve(self, number: int) -> None:
        try:
            while True:
                with self._collecting:
                    calls = self._collect(number)
                self._state.beat(number)
                self._answer(calls)
                self._state.rest(number)
        except BaseException:
            traceback.print_exc()
        end_now(1)

    def _collect(self, number: int) -> list[_Call]:
        """Waits for calls. Returns those of one function, in the order of their arrival, as many as a round takes."""
        while True:
            self._state.beat(number)
            for key, _ in self._selector.select(0 if self._waiting else BEAT_SECONDS):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._read(key)
            if self._waiting:
                break
        function, rows = self._waiting[0].function, 0
        chosen: list[_Call] = []
        others: deque[_Call] = deque()
        for call in self._waiting:
            if call.function == function and rows + call.rows <= ROUND_ROWS:
                chosen.append(call)
                rows += call.rows
            else:
                others.append(call)
        self._waiting = others
        return chosen

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            if not is_own(connection):
                connection.close()
                return
            self._selector.register(connection, selectors.EVENT_READ, None)

    def _read(self, key: selectors.SelectorKey) -> None:
        connection, memory = key.fileobj, key.data
        assert isinstance(connection, socket.socket)  # noqa: S101
        try:
            if memory is None:
                descriptor = receive_memory(connection, self._state.key)
                try:
                    self._selector.modify(connection, selectors.EVENT_READ, Memory(descriptor, self._functions))
                finally:
                    os.close(descriptor)
                return
            message = connection.recv(_MESSAGE_BYTES)
            function, count, number = unpack_call(message)
            if not 0 < count <= ROWS:
                raise ValueError(f"{count} rows in one call")
            self._waiting.append(_Call(connection, function, count, number, memory[function]))
        except (OSError, ValueError, struct.error, IndexError):  # the caller has ended, or is not a replica
            self._selector.unregister(connection)
            connection.close()

    def _answer(self, calls: list[_Call]) -> None:
        outcome, reason = DONE, ""
        try:
            rows = np.concatenate([call.views.inputs[: call.rows] for call in calls])
            results = self._compute[calls[0].function](rows)
            start = 0
            for call in calls:
                call.views.results[: call.rows] = results[start : start + call.rows]
                start += call.rows
        except Exception as error:
            traceback.print_exc()
            if not self._computes():
                end_now(1)
            if len(calls) > 1:  # it may be the fault of one caller's rows
                for call in calls:
                    self._answer([call])
                return
            outcome, reason = FAILED, str(error)
        for call in calls:
            try:
                call.connection.send(pack_reply(outcome, call.number, reason))
            except OSError:
                # The caller has ended, or the system has no memory for the answer. Then its connection ends.
                with contextlib.suppress(OSError):
                    call.connection.shutdown(socket.SHUT_RDWR)
