"""Faults of the process that computes on a GPU, and of its device: each is noticed, and no caller waits for ever."""

from __future__ import annotations

from tests.service.runtime.standing_in import STUCK, WELL, outcome

# The functions tell the process that computed them.
WHO = """
functions = [lambda rows: total(rows) * 0 + os.getpid()] * 2

def until(fact):
    for _ in range(2000):
        if fact():
            return
        time.sleep(0.01)
    raise AssertionError

# Its threads may run on for a while after the signal.
def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    until(lambda: all(
        open(f"/proc/{pid}/task/{thread}/stat").read().rpartition(")")[2].split()[0] == "T"
        for thread in os.listdir(f"/proc/{pid}/task")
    ))
"""
# A computation hangs, and so does a process that gives no sign for this long.
SOON = """
rules = rules._replace(hang_seconds=1.0)
"""


def test_a_process_that_is_stopped_while_nobody_calls_is_replaced() -> None:
    found, events = outcome(
        WHO
        + SOON
        + """
def test(client):
    pid = int(client(0, ones)[0])
    stop(pid)
    until(lambda: starts[0] == 2)
    check(eventually(lambda: client(0, ones))[0] != pid)
"""
    )
    assert (found, events) == (WELL, STUCK)


def test_a_call_of_a_process_that_is_stopped_is_lost() -> None:
    found, events = outcome(
        WHO
        + SOON
        + """
def test(client):
    pid = int(client(0, ones)[0])
    stop(pid)
    check(lost(lambda: client(0, ones)))
    check(eventually(lambda: client(0, ones))[0] != pid)
"""
    )
    assert (found, events) == (WELL, STUCK)


def test_a_process_that_hangs_between_two_calls_is_replaced() -> None:
    found, events = outcome(
        SOON
        + """
import ctypes

def seize(rows):
    if starts[0] == 1:
        # As a driver that calls back and does not return: no other thread of Python goes on.
        threading.Timer(0.1, ctypes.PyDLL(None).sleep, [3600]).start()
    return rows.sum(1)

functions = [seize] * 2

def test(client):
    check(client(0, ones).tolist() == [3] * 5)
    while starts[0] == 1:
        time.sleep(0.01)
    check(eventually(lambda: client(0, ones)).tolist() == [3] * 5)
"""
    )
    assert (found, events) == (WELL, STUCK)


def test_a_process_without_calls_is_not_replaced() -> None:
    found, events = outcome(
        WHO
        + SOON
        + """
def test(client):
    pid = client(0, ones)[0]
    time.sleep(4)
    check(client(0, ones)[0] == pid)
"""
    )
    assert (found, events) == (WELL, [])


def test_nobody_waits_for_a_process_that_was_killed_and_does_not_end() -> None:
    found, events = outcome(
        SOON
        + """
from types import SimpleNamespace
from service.runtime import device_process

class Signals:
    # The driver does not let the first process end.
    given = iter([signal.SIGSTOP])
    SIGKILL = property(lambda self: next(self.given, signal.SIGKILL))

device_process.signal = Signals()
number = mmap.mmap(-1, 8)

def begin(state):
    number[:] = os.getpid().to_bytes(8, "little")

def test(client):
    first = int.from_bytes(number[:], "little")
    check(lost(lambda: client(0, 15 * ones)))
    check(lost(lambda: client(0, ones)))
    check(starts[0] == 1)
    os.kill(first, signal.SIGKILL)
    check(eventually(lambda: client(0, ones)).tolist() == [3] * 5)
"""
    )
    assert (found, events) == (WELL, STUCK)


def test_a_computation_that_fails_fails_for_its_caller_alone() -> None:
    found, events = outcome("""
all_threads = threading.Barrier(6)

def slow(rows):
    # Both threads compute until all other calls wait, which are then computed together.
    if (rows == 12).any():
        time.sleep(1)
    return total(rows)

functions = [slow] * 2

def test(client):
    def call(value):
        try:
            return client(0, value * ones).tolist()
        except RuntimeError as error:
            return str(error)
    def connect(_):
        all_threads.wait()
        return call(1)
    with ThreadPoolExecutor(6) as pool:
        check(list(pool.map(connect, range(6))) == [[3] * 5] * 6)
        busy = [pool.submit(call, 12) for _ in range(2)]
        time.sleep(0.3)
        found = list(pool.map(call, [1, 13, 2, 3]))
    check("thirteen" in found.pop(1))
    check(found == [[3] * 5, [6] * 5, [9] * 5])
    check(all(call.result() == [36] * 5 for call in busy))
""")
    assert (found, events) == (WELL, [])


def test_a_start_that_hangs_is_tried_again_however_long_the_replicas_wait() -> None:
    found, events = outcome("""
rules = rules._replace(stall_seconds=6.0, hang_seconds=1.0)

def begin(state):
    # The third start takes longer than a computation may.
    time.sleep(3600 if starts[0] <= 2 else 1.5)

def test(client):
    check(client(0, ones).tolist() == [3] * 5)
    check(starts[0] == 3)
""")
    assert (found, events) == (WELL, STUCK * 2)


def test_starts_that_all_hang_end_the_service() -> None:
    found, events = outcome("""
rules = rules._replace(stall_seconds=0.5, shutdown_seconds=3600)

def begin(state):
    time.sleep(3600)

def test(client):
    raise AssertionError
""")
    assert found[0] == 1
    assert events[-1] == "the process of the GPU keeps dying at the start; the service ends"
    assert "replica is stuck" not in events


def test_a_device_that_was_found_is_waited_for_even_while_no_replica_serves() -> None:
    found, events = outcome("""
from service.runtime import backoff

backoff.FIRST_SECONDS = 0.01

def begin(state):
    if 2 <= starts[0] <= 1 + 2 * backoff.MOST_FAILED_STARTS:
        return 3

def test(client):
    check(lost(lambda: client(0, 14 * ones)))
    check(eventually(lambda: client(0, ones)).tolist() == [3] * 5)
""")
    assert (found, set(events)) == (WELL, {"the process of the GPU died"})


def test_a_caller_whose_answer_cannot_be_sent_does_not_wait_for_it() -> None:
    found, events = outcome("""
from service.runtime import device_server

pack, too_long = device_server.pack_reply, iter([bytes(10**8)])
device_server.pack_reply = lambda *answer: pack(*answer) + next(too_long, b"")

def test(client):
    check(lost(lambda: client(0, ones)))
    check(client(0, ones).tolist() == [3] * 5)
    check(starts[0] == 1)
""")
    assert (found, events) == (WELL, [])
