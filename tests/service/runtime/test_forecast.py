"""Laws of the forecast of batches."""

from __future__ import annotations

import math
from typing import Any

import pytest

from service.runtime.flows import Caller, Flow
from service.runtime.forecast import Forecast


def test_a_batch_is_predicted_to_take_what_its_jobs_and_what_it_itself_takes() -> None:
    forecast = Forecast()
    assert forecast.batch(3, 1) == 0.0
    for jobs in (1, 8, 2, 16, 4) * 4:
        forecast.observe(3, 0.03 + 0.01 * jobs, jobs)
    assert forecast.batch(3, 10) == pytest.approx(0.13, rel=0.02)
    assert forecast.batch(5, 10) == forecast.batch(3, 10)  # of all sizes, because there was none of this one


def test_a_larger_batch_is_tried_where_nothing_is_known_of_its_time_but_no_much_larger_one() -> None:
    forecast = Forecast()
    for _ in range(30):
        forecast.observe(3, 0.15, 4)
    assert forecast.batch(3, 4) == pytest.approx(0.15)
    assert forecast.jobs_within(3, 0.2, 256) == 6
    for _ in range(3):
        forecast.observe(3, 0.225, 6)  # each job takes as long as in smaller batches
    assert forecast.jobs_within(3, 0.2, 256) == 5


def test_one_unusual_batch_counts_as_twice_what_was_predicted() -> None:
    forecast, other = Forecast(), Forecast()
    for one, seconds in ((forecast, 100.0), (other, 1.0)):
        one.observe(3, 2.0, 4)
        one.observe(3, seconds, 1)
    assert forecast.batch(3, 4) < 2 * other.batch(3, 4)


def test_the_jobs_that_wait_take_their_share_of_batches_as_recent_ones() -> None:
    forecast = Forecast()
    flow: Flow[Any] = Flow(Caller("a", 0.0), 3)
    flow.items = 6
    assert forecast.waiting(flow) == 0.0
    forecast.observe(3, 2.0, 4)
    assert forecast.waiting(flow) == pytest.approx(3.0)


@pytest.mark.parametrize(("fixed", "each"), [(0.0, 0.03), (0.03, 0.01), (0.08, 0.004), (0.001, 0.001)])
def test_the_number_of_jobs_finds_the_one_that_fills_the_time(fixed: float, each: float) -> None:
    forecast, jobs = Forecast(), 1
    for _ in range(50):
        forecast.observe(0, fixed + each * jobs, jobs)
        jobs = forecast.jobs_within(0, 0.2, 1000)
    assert 0.7 * 0.2 <= fixed + each * jobs <= 1.15 * 0.2


def test_the_jobs_within_a_time_are_from_one_to_the_most() -> None:
    forecast = Forecast()
    assert forecast.jobs_within(0, 0.2, 256) == 256  # nothing is known
    forecast.observe(0, 0.05, 1)
    assert forecast.jobs_within(0, 0.2, 3) == 3
    assert forecast.jobs_within(0, 0.01, 256) == 1
    assert forecast.jobs_within(0, math.inf, 256) == 256
