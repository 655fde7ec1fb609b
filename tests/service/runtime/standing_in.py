"""A process that computes on a GPU for a supervisor's replicas, with functions of the processor."""

from __future__ import annotations

from tests.service.runtime.supervising import supervise

# Two functions of rows, callers of them, and the process. Each replica's `run` is defined by the test.
DEVICE = """
import threading
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from service.errors import DeviceLost, InvalidInput
from service.runtime import device_client
from service.runtime.device_client import DeviceClient, DeviceLink
from service.runtime.device_link import Function
from service.runtime.device_process import DeviceProcess
from service.runtime.device_server import DeviceServer

FUNCTIONS = [Function((3,), (), np.float32), Function((2, 2), (4,), np.uint8)]
starts = mmap.mmap(-1, 1)

def total(rows):
    if (rows == 13).any():
        raise ValueError("thirteen")
    if (rows == 14).any():
        os.kill(os.getpid(), signal.SIGKILL)
    if (rows == 15).any():
        time.sleep(3600)
    return rows.sum(1)

# A test may define these three anew.
functions = [total, lambda rows: rows.reshape(-1, 4).astype(np.uint8)]
computes = lambda: True

def begin(state):
    return None

def compute(listener, state):
    starts[0] = starts[0] + 1
    status = begin(state)
    if status is not None:
        return status
    server = DeviceServer(listener, FUNCTIONS, functions, state, lambda: computes())
    state.ready("a processor")
    server.run()

device = DeviceProcess(compute)
link = DeviceLink(device.address, device.state)

def check(fact):
    if not fact:
        raise AssertionError

def lost(call):
    try:
        call()
    except DeviceLost:
        return True

def eventually(call):
    for _ in range(1000):
        try:
            return call()
        except DeviceLost:
            time.sleep(0.01)

ones = np.ones((5, 3), np.float32)

def main(seat, pair, test):
    try:
        check(link.has_device(lambda: seat.beat(stuck=False)))
        test(DeviceClient(link, FUNCTIONS))
        pair.messages.send(channel.REFUSED, b"all is well")
    except BaseException as error:
        pair.messages.send(channel.REFUSED, repr(error).encode())
        raise

def report(seat):
    while True:
        seat.beat(stuck=False)
        time.sleep(0.05)

def run(seat, pair):
    if seat.replica == 0:
        main(seat, pair, test)
    else:
        threading.Thread(target=report, args=(seat,), daemon=True).start()
    until_stopped(pair)
    return 0
"""
WELL = (2, "all is well")
STUCK = ["the process of the GPU is stuck and is killed", "the process of the GPU died"]


def outcome(test: str) -> tuple[tuple[int, str], list[str]]:
    """Status and reason, and the events, of a service whose first replica runs `test`, and which then ends."""
    status, reason, events, left = supervise(DEVICE + test)
    assert left is None
    return (status, reason), events
