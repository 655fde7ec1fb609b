"""Requests that the lanes would refuse, as the door remembers them."""

from __future__ import annotations

from service.runtime.verdicts import LEAST_REFUSALS, MARGIN, MOST_KINDS, Verdicts


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def refusing(predicted: float, count: int = LEAST_REFUSALS) -> tuple[Verdicts, Clock]:
    """Verdicts after as many refusals of the kind "a"."""
    clock = Clock()
    verdicts = Verdicts(clock)
    for _ in range(count):
        verdicts.refused("a", predicted)
    return verdicts, clock


def test_a_kind_is_refused_until_its_lane_would_end_a_request_in_the_allowed_part_of_its_time() -> None:
    verdicts, clock = refusing(1.0)
    clock.now += 0.25
    assert verdicts.late("a", 1.0) == 0.75
    clock.now += 0.5
    assert verdicts.late("a", 0.25 / MARGIN + 1e-9) == 0.0
    assert verdicts.late("a", 0.25 / MARGIN - 1e-9) == 0.25


def test_once_the_time_has_passed_the_kind_is_forgotten() -> None:
    verdicts, clock = refusing(1.0)
    clock.now += 1.0
    assert verdicts.late("a", 1e-9) == 0.0
    assert not verdicts


def test_few_refusals_do_not_speak_for_others_of_the_kind_and_an_answer_starts_anew() -> None:
    verdicts, _ = refusing(1.0, LEAST_REFUSALS - 1)
    assert verdicts.late("a", 0.1) == 0.0
    verdicts.answered("a")
    verdicts.refused("a", 1.0)
    assert verdicts.late("a", 0.1) == 0.0


def test_other_kinds_are_not_refused() -> None:
    verdicts, _ = refusing(1.0)
    assert verdicts.late("b", 0.1) == 0.0


def test_no_more_kinds_are_remembered_than_allowed_and_the_latest_are() -> None:
    verdicts, _ = refusing(1.0)
    for number in range(MOST_KINDS):
        verdicts.refused(number, 1.0)
    for _ in range(LEAST_REFUSALS):
        verdicts.refused("a", 1.0)
        verdicts.refused(0, 1.0)
    assert verdicts.late("a", 0.1) > 0
    assert verdicts.late(0, 0.1) > 0
