"""The supervisor with replicas that fail."""

from __future__ import annotations

from service.runtime.backoff import MOST_FAILED_STARTS
from tests.service.runtime.supervising import supervise


def test_if_replicas_keep_dying_at_the_start_the_service_gives_up_with_status_1() -> None:
    status, reason, events, left = supervise("def run(seat, pair): return 3")
    assert (status, reason, left) == (1, "", None)
    assert MOST_FAILED_STARTS <= events.count("replica died") <= 2 * MOST_FAILED_STARTS
    assert events[-1] == "replicas keep dying at the start; the service ends"


def test_a_replica_that_cannot_start_ends_the_service_with_its_reason_and_status_2() -> None:
    run = """
def run(seat, pair):
    pair.messages.send(channel.REFUSED, b"no such device")
    return 2
"""
    status, reason, events, left = supervise(run)
    assert (status, reason, left) == (2, "no such device", None)
    assert "replicas keep dying at the start; the service ends" not in events


def test_a_replica_that_does_not_stop_is_killed() -> None:
    # The first replica asks for the end of the service, and the other one never reads its orders.
    run = """
def run(seat, pair):
    if seat.replica == 0:
        pair.messages.send(channel.REFUSED, b"the end")
        return 2
    time.sleep(3600)
"""
    status, reason, _, left = supervise(run)
    assert (status, reason, left) == (2, "the end", None)
