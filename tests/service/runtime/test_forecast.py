"""Laws of the forecast of batches."""

from __future__ import annotations

import asyncio
import math

from service.runtime.batching import Batcher, Limits
from service.runtime.forecast import Forecast
from tests.service.runtime.batchers import Gate, run, until


def test_a_forecast_is_the_mean_seconds_of_a_job_of_the_size() -> None:
    forecast = Forecast()
    assert forecast.seconds(3) == 0.0
    forecast.observe(3, 2.0, 4)
    assert forecast.seconds(3, 6) == 3.0
    assert forecast.seconds(5) == 0.5  # of all sizes, because there was none of this one
    forecast.observe(3, 100.0, 1)
    assert 0.5 < forecast.seconds(3) < 1.0  # one unusual batch counts as twice the mean


def test_the_jobs_within_a_time_are_from_one_to_the_most() -> None:
    forecast = Forecast()
    assert forecast.jobs_within(0, 0.2, 256) == 256  # nothing is known
    forecast.observe(0, 0.05, 1)
    assert forecast.jobs_within(0, 0.2, 256) == 4
    assert forecast.jobs_within(0, 0.2, 3) == 3
    assert forecast.jobs_within(0, 0.01, 256) == 1
    assert forecast.jobs_within(0, math.inf, 256) == 256


def test_no_batch_of_several_jobs_is_predicted_to_be_longer_than_the_limit() -> None:
    gate = Gate()

    async def story(batcher: Batcher[int, int]) -> None:
        tasks = [asyncio.create_task(batcher.submit(0))]
        await until(gate.entered.is_set)
        tasks += [asyncio.create_task(batcher.submit(job)) for job in range(1, 6)]
        await asyncio.sleep(0.1)  # the first batch takes at least this, so one job does
        gate.event.set()
        await asyncio.gather(*tasks)

    run(story, gate, limits=Limits(8, 8, 100, 100, batch_seconds=0.1))
    assert gate.batches[1] == [1]
    run(story, gate := Gate(), limits=Limits(8, 8, 100, 100))
    assert gate.batches[1] == [1, 2, 3, 4, 5]
