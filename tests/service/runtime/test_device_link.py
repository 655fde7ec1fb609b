"""The link between a caller and the process that computes on a GPU, here with that process played by a thread."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from service.errors import DeviceLost
from service.runtime import device_process, device_state
from service.runtime.device_client import DeviceClient, DeviceLink
from service.runtime.device_link import (
    DONE,
    Function,
    Memory,
    listen,
    new_memory,
    pack_reply,
    receive_memory,
    send_memory,
    unpack_call,
)
from service.runtime.device_process import DeviceProcess
from service.runtime.device_state import DeviceState
from service.runtime.usage import open_files

FUNCTIONS = [Function((3,), (), np.float32)]


def answered(listener: socket.socket, key: bytes, number: Callable[[int], int]) -> None:
    """Answer one call with ones, and with `number(that of the call)`."""
    listener.settimeout(60)
    connection, _ = listener.accept()
    with connection:
        descriptor = receive_memory(connection, key)
        views = Memory(descriptor, FUNCTIONS)[0]
        os.close(descriptor)
        _, count, called = unpack_call(connection.recv(64))
        views.results[:count] = 1
        connection.send(pack_reply(DONE, number(called)))


def test_only_the_answer_to_a_call_ends_it() -> None:
    state, rows = DeviceState(), np.zeros((2, 3), np.float32)
    state.ready("a thread")
    with listen() as listener, ThreadPoolExecutor(1) as pool:
        client = DeviceClient(DeviceLink(listener.getsockname(), state), FUNCTIONS)
        server = pool.submit(answered, listener, state.key, lambda called: (called - 1) % 2**32)
        with pytest.raises(DeviceLost):
            client(0, rows)
        server.result()
        server = pool.submit(answered, listener, state.key, lambda called: called)
        assert client(0, rows).tolist() == [1, 1]
        server.result()
    state.ended()
    with pytest.raises(DeviceLost):
        client(0, rows)


@pytest.mark.parametrize("key", [b"", b"k" * 15, b"k" * 17, b"l" * 16])
def test_the_memory_of_a_stranger_is_closed(key: bytes) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        descriptor = new_memory(FUNCTIONS)
        before = open_files()
        send_memory(theirs, descriptor, key)
        with pytest.raises(OSError, match="no memory"):
            receive_memory(ours, b"k" * 16)
        assert open_files() == before
        os.close(descriptor)


def test_the_end_of_the_service_waits_only_some_seconds_for_the_end_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = DeviceProcess(lambda _, __: 0)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]) as process:
        device.pid = process.pid
        # A process that waits for a faulty driver does not end.
        monkeypatch.setattr(os, "waitpid", lambda _, options: (0, 0) if options & os.WNOHANG else time.sleep(3600))
        monkeypatch.setattr(device_process, "END_SECONDS", 0.05)
        device.end()
        monkeypatch.undo()
        assert process.wait(60) == -signal.SIGKILL
    device.close()


def test_after_a_pause_of_the_whole_service_the_process_has_time_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 1000.0
    for module in (device_process, device_state):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: seconds))
    device = DeviceProcess(lambda _, __: 0)
    device.pid = os.getpid()
    device.state.starting()
    hangs = []
    for pause in (1, 1, 3600, 1):
        seconds += pause
        hangs.append(device.hangs(stall_seconds=60, hang_seconds=60))
    assert hangs == [False, False, False, True]
    device.state.rest(0)
    seconds += 1
    assert not device.hangs(stall_seconds=60, hang_seconds=60)
    device.close()


def test_a_process_that_stops_between_two_threads_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = 1000.0
    for module in (device_process, device_state):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: seconds))
    device = DeviceProcess(lambda _, __: 0)
    device.pid = os.getpid()
    device.state.starting()
    device.state.ready("a GPU")
    device.state.beat(0)
    device.state.rest(0)  # and the next thread does not begin
    hangs = []
    for _ in range(4):
        seconds += 1
        hangs.append(device.hangs(stall_seconds=2.5, hang_seconds=60))
    assert hangs == [False, False, True, True]
    device.close()
