"""What the process that computes on a GPU tells the supervisor and the replicas."""

from __future__ import annotations

import pytest

from service.runtime.device_state import THREADS, DeviceState


def found() -> DeviceState:
    """The state after a process has been ready and has ended."""
    state = DeviceState()
    state.starting()
    state.ready("a GPU")
    state.ended()
    return state


def test_the_kind_of_the_device_is_known_while_the_device_is_away() -> None:
    state = found()
    assert (state.is_found, state.is_ready, state.kind, state.last_beat()) == (True, False, "a GPU", 0.0)
    state.starting()
    state.ready("a GPU")
    assert (state.is_ready, state.starts) == (True, 2)


def test_once_a_device_was_found_nothing_else_takes_its_place() -> None:
    state = found()
    state.starting()
    state.unneeded()
    state.refused("torch finds no CUDA device")
    with pytest.raises(RuntimeError, match=r"another GPU.*a GPU"):
        state.ready("another GPU")
    assert (state.is_unneeded, state.reason, state.is_ready) == (False, "", False)
    assert state.kind == "a GPU"


def test_before_a_device_is_found_its_absence_decides() -> None:
    state = DeviceState()
    state.starting()
    state.unneeded()
    assert (state.is_unneeded, state.is_found) == (True, False)
    state = DeviceState()
    state.starting()
    state.refused("no such device")
    assert state.reason == "no such device"


def test_the_thread_that_has_been_silent_for_longest_counts_and_one_that_rests_does_not() -> None:
    state = DeviceState()
    state.starting()
    state.ready("a GPU")
    for thread in range(THREADS):
        state.beat(thread)
    oldest = state.last_beat()
    for thread in range(1, THREADS):
        state.beat(thread)
        assert state.last_beat() == oldest
    state.rest(0)
    assert state.last_beat() > oldest


def test_a_process_whose_threads_all_rest_was_last_active_when_the_last_one_ended() -> None:
    state = DeviceState()
    state.starting()
    started = state.last_beat()
    state.ready("a GPU")  # no thread has begun yet
    assert state.last_beat() >= started > 0
    for thread in range(THREADS):
        state.beat(thread)
        state.rest(thread)
    resting = state.last_beat()
    assert resting > started
    assert state.last_beat() == resting
    state.ended()
    assert state.last_beat() == 0
