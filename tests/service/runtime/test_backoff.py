"""The pauses before a replica is started again."""

from __future__ import annotations

from service.runtime.backoff import FIRST_SECONDS, MAX_SECONDS, SOUND_SECONDS, Backoff


def test_the_first_restart_is_immediate_and_each_further_pause_doubles() -> None:
    backoff = Backoff()
    pauses = [backoff.died(1.0) for _ in range(40)]
    assert pauses[:4] == [0, FIRST_SECONDS, 2 * FIRST_SECONDS, 4 * FIRST_SECONDS]
    assert pauses[-1] == MAX_SECONDS
    assert pauses == sorted(pauses)


def test_a_replica_that_served_for_long_begins_anew() -> None:
    backoff = Backoff()
    assert [backoff.died(1.0), backoff.died(1.0), backoff.died(SOUND_SECONDS)] == [0, FIRST_SECONDS, 0]


def test_only_starts_that_fail_in_a_row_are_hopeless() -> None:
    backoff = Backoff()
    for served in (None, None, None, 1.0, None, None, None):
        backoff.died(served)
        assert not backoff.is_hopeless
    backoff.died(None)
    assert backoff.is_hopeless
