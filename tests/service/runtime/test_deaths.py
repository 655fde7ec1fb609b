"""Replicas that die, cannot be forked or are stuck, under a supervisor in a process of its own."""

from __future__ import annotations

from tests.service.runtime.supervising import supervise


def test_a_replica_that_dies_while_it_asks_for_metrics_does_not_end_the_others() -> None:
    # Replica 0 asks, and dies when only its own snapshot is missing: the second question says that the other has come.
    run = """
marker = mmap.mmap(-1, 1)

def run(seat, pair):
    if seat.replica == 1:
        (kind, content), *_ = received(pair)
        pair.messages.send(channel.SNAPSHOT, content + b"[]")
        pair.messages.send(channel.WANTED, b"name")
        until_stopped(pair)
        return 0
    if marker[0] == 0:
        marker[0] = 1
        pair.messages.send(channel.WANTED, b"name")
        questions = 0
        while questions < 2:
            questions += sum(kind == channel.SNAPSHOT for kind, _ in received(pair))
        os.kill(os.getpid(), signal.SIGKILL)
    pair.messages.send(channel.REFUSED, b"the end")
    return 2
"""
    status, reason, events, left = supervise(run)
    assert (status, reason, left) == (2, "the end", None)
    assert events == ["replica died"]


def test_a_process_that_cannot_be_forked_is_tried_again() -> None:
    run = """
fork, tries = os.fork, []

def sometimes():
    tries.append(None)
    if len(tries) == 1:
        raise BlockingIOError("no process ids")
    return fork()

os.fork = sometimes

def run(seat, pair):
    if seat.replica == 0:
        pair.messages.send(channel.REFUSED, b"the end")
        return 2
    until_stopped(pair)
    return 0
"""
    status, reason, events, left = supervise(run)
    assert (status, reason, left) == (2, "the end", None)
    assert events == ["replica cannot be started"]


def test_if_no_process_can_be_forked_the_service_gives_up_with_status_1() -> None:
    run = """
def never():
    raise OSError("no memory")

os.fork = never
run = None
"""
    status, reason, events, left = supervise(run)
    assert (status, reason, left) == (1, "", None)
    assert events[-1] == "replicas keep dying at the start; the service ends"


def test_a_replica_that_hangs_at_its_start_is_ended_and_started_again() -> None:
    run = """
marker = mmap.mmap(-1, 1)
rules = rules._replace(stall_seconds=0.5, shutdown_seconds=0.1)
supervisor_module.CHECK_SECONDS = supervisor_module.EXTRA_SECONDS = 0.1

def run(seat, pair):
    if seat.replica == 1:
        time.sleep(3600)
    if marker[0] == 0:
        marker[0] = 1
        time.sleep(3600)
    pair.messages.send(channel.REFUSED, b"the end")
    return 2
"""
    status, reason, events, left = supervise(run)
    assert (status, reason, left) == (2, "the end", None)
    assert "replica is stuck" in events


def test_a_replica_whose_event_loop_stands_still_is_killed_and_started_again() -> None:
    run = """
marker = mmap.mmap(-1, 1)
rules = rules._replace(hang_seconds=0.5)
supervisor_module.CHECK_SECONDS = 0.1

def run(seat, pair):
    seat.join()
    if seat.replica == 1:
        while marker[0] < 3:
            seat.beat(stuck=False)
            time.sleep(0.01)
        until_stopped(pair)
        return 0
    if marker[0] == 0:
        marker[0] = 1
        time.sleep(3600)
    if marker[0] == 1:
        marker[0] = 2
        while True:
            pass
    marker[0] = 3
    seat.board.reset(0)
    seat.board.reset(1)
    pair.messages.send(channel.REFUSED, b"the end")
    return 2
"""
    status, reason, events, left = supervise(run)
    assert (status, reason, left) == (2, "the end", None)
    assert events.count("replica hangs and is killed") == events.count("replica died") == 2
