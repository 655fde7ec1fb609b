"""Admission: what is predicted of a new request, from those in progress and the lag of the event loop."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.runtime.admission import (
    LATE_SECONDS,
    MARGIN,
    MOST_JOB_SECONDS,
    TICK_SECONDS,
    TRIAL_SECONDS,
    Admission,
    Line,
)

MAX_WAIT = 2.0
ME, OTHER = "peer:1", "peer:2"


class Loop:
    """An event loop on which each turn takes as long as the test says."""

    def __init__(self, max_wait: float = MAX_WAIT) -> None:
        self.now = 0.0
        self.timer: tuple[float, Callable[[], None]] | None = None
        self.admission = Admission(max_wait, self.after, lambda: self.now)
        self.open: list[int] = []

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        assert self.timer is None
        self.timer = self.now + seconds, call

    def turn(self, seconds: float) -> None:
        """A turn that takes `seconds`. Timers run at its end."""
        self.now += seconds
        if self.timer is not None and self.timer[0] <= self.now:
            call, self.timer = self.timer[1], None
            call()

    def enter(self, count: int = 1, caller: str = ME) -> list[int]:
        numbers = [self.admission.enter(caller) for _ in range(count)]
        self.open += numbers
        return numbers

    def leave(self, count: int = 1, caller: str = ME) -> None:
        """The oldest requests end."""
        for _ in range(count):
            self.admission.leave(self.open.pop(0), caller)

    def saturate(self, seconds: float, count: int = 1000) -> None:
        """Serve `count` requests in `seconds` each, so that the loop is always late. None remains."""
        self.enter(count)
        while self.open:
            self.turn(100 * seconds)
            self.leave(min(100, len(self.open)))
        for _ in range(3):
            self.turn(TICK_SECONDS)

    def excess(self, timeout: float | None, caller: str = ME, lane: float = 0.0) -> float:
        """The predicted seconds if the request is refused."""
        late = self.admission.late(timeout, lane)
        return 0.0 if late and self.admission.spares(caller, timeout, late) else late

    def exhaust_trials(self) -> None:
        self.excess(1e-9, ME, 1.0)


def test_without_requests_all_are_admitted() -> None:
    assert Loop().excess(0.001) == 0
    assert Loop().excess(None) == 0


def test_the_prediction_is_littles_law_in_requests_and_seconds_between_completions() -> None:
    loop = Loop()
    loop.enter(1000)
    for _ in range(5):  # turns of 0.1 s, in which 100 requests end: 1 ms each
        loop.turn(0.1)
        loop.leave(100)
    loop.turn(0.1)
    assert loop.admission.predicted() == pytest.approx(500 * 0.001 + loop.admission.lag, rel=0.25)


def test_a_deadline_is_met_or_the_request_is_refused() -> None:
    loop = Loop()
    loop.enter(1000)
    for _ in range(5):
        loop.turn(0.1)
        loop.leave(100)
    loop.turn(0.1)
    loop.exhaust_trials()
    predicted = loop.admission.predicted()
    assert loop.excess(predicted / MARGIN * 0.99) == predicted
    assert loop.excess(predicted / MARGIN * 1.01) == 0
    assert loop.excess(None) == 0
    assert loop.excess(0.0) > 0
    assert loop.excess(-1.0) > 0


def test_without_a_deadline_the_limit_is_the_settings() -> None:
    loop = Loop(max_wait=0.1)
    loop.enter(1000)
    for _ in range(5):
        loop.turn(0.1)
        loop.leave(100)
    loop.turn(0.1)
    loop.exhaust_trials()
    assert loop.excess(None) == loop.admission.predicted() > 0.1


def test_registrations_that_take_an_hour_refuse_nobody() -> None:
    loop = Loop()
    loop.saturate(0.001)
    loop.enter(4000)  # they wait in a lane, and the loop is idle
    for _ in range(5):
        loop.turn(TICK_SECONDS)
    assert loop.admission.in_progress == 4000
    assert loop.excess(0.01) == 0


def test_who_was_overtaken_is_not_ahead() -> None:
    loop = Loop()
    loop.saturate(0.001)
    loop.enter(4000)
    (cheap,) = loop.enter()
    assert loop.admission.predicted() > 1
    loop.admission.leave(cheap, ME)
    assert loop.admission.predicted() < 0.01


def test_a_burst_is_admitted_as_far_as_it_can_be_served() -> None:
    """All of it arrives in one turn of the loop, which has no time to be late."""
    loop = Loop()
    loop.saturate(0.001)
    interval = 0.001
    admitted = 0
    loop.exhaust_trials()
    for _ in range(1000):
        if loop.excess(0.2) == 0:
            loop.enter()
            admitted += 1
    assert admitted == pytest.approx(MARGIN * 0.2 / interval, rel=0.3)


def test_a_burst_that_is_read_before_it_is_answered_is_admitted() -> None:
    loop = Loop()
    loop.enter(2)
    loop.turn(TICK_SECONDS)
    # The loop reads 500 requests of 0.1 ms each, while two end that were there before.
    loop.leave(2)
    loop.enter(500)
    loop.turn(0.05)
    loop.exhaust_trials()
    assert loop.excess(None) == 0
    loop.enter(100)
    loop.leave(1)
    loop.turn(0.03)
    loop.exhaust_trials()
    assert loop.excess(None) == 0
    # Then 64 are answered at a time, in 0.2 ms each.
    for _ in range(5):
        loop.leave(64)
        loop.turn(0.0128)
        loop.exhaust_trials()
        assert loop.excess(None) == 0
    assert loop.admission.predicted() < 1


def test_a_few_requests_on_a_slow_machine_do_not_refuse_a_burst() -> None:
    loop = Loop()
    for _ in range(5):  # the loop gets its processor late, and answers one request each time
        loop.enter()
        loop.turn(TICK_SECONDS + 2 * LATE_SECONDS)
        loop.leave()
    loop.enter(200)
    loop.exhaust_trials()
    assert loop.excess(None) == 0


def test_a_loop_that_keeps_up_unlearns_that_it_was_slow() -> None:
    loop = Loop()
    loop.saturate(0.1, count=300)
    loop.enter(20)
    loop.turn(TICK_SECONDS)
    loop.leave(20)
    loop.enter(20)
    assert loop.admission.predicted() <= 20 * TICK_SECONDS / 20 + 1e-9


def test_a_lag_counts_until_it_is_gone() -> None:
    loop = Loop()
    loop.enter()
    for _ in range(2):
        loop.turn(0.5)  # something blocks the loop
    loop.exhaust_trials()
    assert loop.admission.lag >= LATE_SECONDS
    assert loop.excess(0.2) > 0
    loop.turn(TICK_SECONDS)
    assert loop.excess(0.2) == 0


def test_one_stall_refuses_nobody() -> None:
    """The process or the machine was suspended, and then many requests wait."""
    loop = Loop()
    loop.saturate(0.001)
    loop.enter(10)
    loop.turn(3600.0)
    for _ in range(100):
        assert loop.excess(None) == 0
        loop.enter()
    loop.leave(1)
    loop.turn(0.1)
    assert loop.excess(None) == 0


def test_while_requests_are_refused_one_is_tried_now_and_then() -> None:
    loop = Loop()
    loop.enter(10)
    for _ in range(2):
        loop.turn(1.0)
    tried = 0
    for _ in range(100):
        tried += loop.excess(0.1) == 0
        loop.now += TRIAL_SECONDS / 10
    assert 9 <= tried <= 11


def test_a_caller_with_less_than_its_share_is_admitted() -> None:
    loop = Loop()
    loop.saturate(0.001)
    loop.enter(400)  # of one caller; for a deadline of 0.2 s, a fifth of them may be in progress
    loop.exhaust_trials()
    assert loop.excess(0.2) > 0
    assert loop.excess(0.2, OTHER) == 0
    loop.enter(300, OTHER)
    assert loop.excess(0.2, OTHER) > 0


def test_the_timer_stops_when_nothing_arrives() -> None:
    loop = Loop()
    loop.enter(3)  # and never end
    for _ in range(5):
        loop.turn(TICK_SECONDS)
    assert loop.timer is None


def test_a_lane_counts_its_jobs_and_not_how_slow_they_are() -> None:
    now = 0.0
    line = Line(lambda: now)
    line.items = 200
    line.dispatched(100)
    now = 0.1
    line.finished(100, 0.1)
    assert line.wait() == pytest.approx(200 * 0.001, rel=0.01)
    line.dispatched(50)
    assert line.wait() == pytest.approx(250 * 0.001, rel=0.01)
    line.finished(50, 0.05)
    for _ in range(20):
        now += 1.0
        line.dispatched(1)
        line.finished(1, 1.0)
    assert line.wait() == 200 * MOST_JOB_SECONDS
    line.items = 0
    assert line.wait() == 0
