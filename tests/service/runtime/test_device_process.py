"""The process that computes on a GPU for all replicas, here with functions of the processor."""

from __future__ import annotations

from tests.service.runtime.standing_in import STUCK, WELL, outcome


def test_each_caller_gets_the_results_of_its_own_rows() -> None:
    found, events = outcome("""
def one(client, seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 700))
    if seed % 2:
        rows = rng.normal(size=(count, 3)).astype(np.float32)
        return np.array_equal(client(0, rows), rows.sum(1))
    rows = rng.integers(0, 256, (count, 2, 2)).astype(np.float32)
    found = client(1, rows)
    return found.dtype == np.uint8 and np.array_equal(found, rows.reshape(-1, 4))

def test(client):
    with ThreadPoolExecutor(8) as pool:
        check(all(pool.map(lambda seed: one(client, seed), range(400))))
    check(client(0, np.empty((0, 3), np.float32)).shape == (0,))
""")
    assert (found, events) == (WELL, [])


def test_a_computation_that_fails_leaves_the_process_to_others() -> None:
    found, events = outcome("""
def test(client):
    for _ in range(3):
        try:
            client(0, 13 * ones)
        except RuntimeError as error:
            check("thirteen" in str(error))
        else:
            raise AssertionError
        check(client(0, ones).tolist() == [3] * 5)
""")
    assert (found, events) == (WELL, [])


def test_a_process_that_dies_loses_what_it_computed_and_is_replaced() -> None:
    found, events = outcome("""
def test(client):
    for _ in range(2):
        check(client(0, ones).tolist() == [3] * 5)
        check(lost(lambda: client(0, 14 * ones)))
        check(eventually(lambda: client(0, ones)).tolist() == [3] * 5)
    check(starts[0] == 3)
""")
    assert (found, events) == (WELL, ["the process of the GPU died"] * 2)


def test_a_call_that_comes_before_the_end_is_known_is_lost_and_does_not_wait_for_the_next_process() -> None:
    found, events = outcome("""
known = mmap.mmap(-1, 1)

functions = [lambda rows: rows[:, 0] * 0 + os.getpid()] * 2

def begin(state):
    while starts[0] == 2 and not known[0]:
        time.sleep(0.01)

def test(client):
    pid = int(client(0, ones)[0])
    os.kill(os.getppid(), signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGKILL)
        while open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        check(link.state.is_ready)
        call = ThreadPoolExecutor().submit(client, 0, ones)
        time.sleep(0.2)
    finally:
        os.kill(os.getppid(), signal.SIGCONT)
    check(isinstance(call.exception(20), DeviceLost))
    known[0] = 1
    check(eventually(lambda: client(0, ones))[0] != pid)
""")
    assert (found, events) == (WELL, ["the process of the GPU died"])


def test_a_process_that_hangs_is_killed_and_replaced() -> None:
    found, events = outcome("""
rules = rules._replace(hang_seconds=1.0)  # and not stall_seconds, after which the callers would count as stalled

def test(client):
    check(lost(lambda: client(0, 15 * ones)))
    check(eventually(lambda: client(0, ones)).tolist() == [3] * 5)
""")
    assert (found, events) == (WELL, STUCK)


def test_a_device_that_does_not_compute_any_more_ends_the_process() -> None:
    found, events = outcome("""
computes = lambda: False

def test(client):
    check(client(0, ones).tolist() == [3] * 5)
    check(lost(lambda: client(0, 13 * ones)))
    check(eventually(lambda: client(0, ones)).tolist() == [3] * 5)
    check(starts[0] == 2)
""")
    assert (found, events) == (WELL, ["the process of the GPU died"])


def test_a_device_that_does_not_exist_ends_the_service_with_the_reason() -> None:
    found, events = outcome("""
def begin(state):
    state.refused("no such device")
    return 2

rules = rules._replace(shutdown_seconds=3600)  # no replica waits for a process that has ended

def run(seat, pair):
    time.sleep(seat.replica)
    try:
        link.has_device(lambda: None)
    except InvalidInput as error:
        check(error.detail == "no such device")
        return 2
""")
    assert found == (2, "no such device")
    assert "the process of the GPU died" not in events


def test_without_a_device_the_replicas_compute_and_the_process_is_not_replaced() -> None:
    found, events = outcome("""
def begin(state):
    state.unneeded()
    return 0

def run(seat, pair):
    if seat.replica == 0:
        check(not link.has_device(lambda: None))
        time.sleep(0.5)
        pair.messages.send(channel.REFUSED, b"all is well" if starts[0] == 1 else b"too many")
    until_stopped(pair)
    return 0
""")
    assert (found, events) == (WELL, [])


def test_a_device_that_disappears_is_waited_for() -> None:
    found, events = outcome("""
def begin(state):
    if starts[0] == 2:
        state.unneeded()
        check(not state.is_unneeded)
        return 0

def test(client):
    check(lost(lambda: client(0, 14 * ones)))
    check(eventually(lambda: client(0, ones)).tolist() == [3] * 5)
    check(starts[0] == 3)
""")
    assert (found, events) == (WELL, ["the process of the GPU died"] * 2)


def test_a_process_that_keeps_dying_at_the_start_ends_the_service() -> None:
    found, events = outcome("""
def begin(state):
    return 3

rules = rules._replace(shutdown_seconds=3600)  # no replica waits for a process that does not come any more

def run(seat, pair):
    try:
        link.has_device(lambda: None)
    except InvalidInput as error:
        check(error.detail == "the service ends")
        return 2
""")
    assert found == (1, "")
    assert events[-1] == "the process of the GPU keeps dying at the start; the service ends"
