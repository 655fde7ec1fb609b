"""Laws of a lane under overload, in virtual time: the worker computes what is answered in time."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np
import pytest

from service.errors import Overloaded
from service.runtime.batching import Batcher, Limits
from service.runtime.deadlines import Deadlines
from service.runtime.flows import Caller, Flow
from service.runtime.forecast import Forecast
from tests.service.runtime.batchers import Gate, run, until
from tests.service.runtime.virtual import Seconds, load

# As in `service.lanes`: a batch takes a fifth of a second at most.
BATCH_SECONDS = 0.2


class Kind(NamedTuple):
    """Jobs of one kind: a batch takes `fixed` seconds, and `each` for each of up to `most` jobs, which scatter."""

    fixed: float
    each: float
    scatter: float
    most: int

    def seconds(self) -> Seconds:
        rng = np.random.default_rng(1)
        mean = -(self.scatter**2) / 2  # of the logarithm, so that the mean of the factors is 1
        return lambda jobs: self.fixed + self.each * float(np.exp(rng.normal(mean, self.scatter, len(jobs))).sum())

    def rate(self, batch_seconds: float) -> float:
        """Jobs a second in batches that take at most `batch_seconds`, if they have several jobs."""
        jobs = min(max(1.0, (batch_seconds - self.fixed) / self.each), self.most)
        return jobs / (self.fixed + self.each * jobs)


class Waiting(NamedTuple):
    """A job that waits."""

    timeout: float
    deadline: float
    place: int


# About what registrations in batches, scored digits, sheets of scored digits and searches for a pose take.
KINDS = {
    "small": Kind(0.001, 0.001, 0.3, 52),
    "batched": Kind(0.03, 0.01, 0.2, 52),
    "scored": Kind(0.001, 0.0015, 0.1, 64),
    "sheet": Kind(0.0, 0.045, 0.1, 1),
    "pose": Kind(0.0, 0.05, 0.5, 1),
}


@pytest.mark.parametrize("timeout", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_goodput_under_overload_is_nine_tenths_of_its_peak(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, timeout: float
) -> None:
    key: Callable[[int], Hashable] = (lambda job: job) if kind.most == 1 else (lambda _: None)
    limits = Limits(256, kind.most, 4096, 1e9, BATCH_SECONDS)
    capacity = kind.rate(BATCH_SECONDS)
    duration = max(2.0, 500 / capacity)
    loads = [
        load(monkeypatch, factor * capacity, timeout, kind.seconds(), limits, key, duration) for factor in (1, 2, 10)
    ]
    peak = max(one.good for one in loads)
    assert min(one.good for one in loads[1:]) >= 0.9 * peak
    # The peak is no lower than what batches of a third of the time allow.
    assert peak >= 0.85 * kind.rate(min(BATCH_SECONDS, timeout / 3))
    assert all(one.slowest <= timeout for one in loads)


def test_a_job_that_has_become_too_late_is_refused_before_it_is_computed() -> None:
    gate = Gate(is_open=True)

    async def story(batcher: Batcher[int, int]) -> None:
        for job in range(8):
            await batcher.submit(job)  # takes next to nothing, so all is admitted
        gate.event.clear()
        gate.entered.clear()
        tasks = [asyncio.create_task(batcher.submit(8))]
        await until(gate.entered.is_set)
        late = [asyncio.create_task(batcher.submit(job, timeout=30)) for job in (9, 10)]
        await asyncio.sleep(0)
        for _ in range(200):  # meanwhile such jobs turn out to take minutes
            batcher._forecast.observe(0, 100.0, 1)
        gate.event.set()
        await tasks[0]
        with pytest.raises(Overloaded, match="too long for"):
            await late[0]
        assert await late[1] == 100  # it is alone, and so is tried
        assert [9] not in gate.batches

    run(story, gate, limits=Limits(1, 1, 100, 100))


@pytest.mark.parametrize(
    ("fixed", "timeout", "most"),
    [(0.03, math.inf, 7), (0.03, 0.15, 5), (0.03, 0.09, 2), (0.03, 0.02, 1), (0.09, math.inf, 11), (0.09, 0.3, 9)],
)
def test_a_batch_takes_the_limit_or_a_third_of_the_time_of_its_jobs_or_twice_one_job(
    fixed: float, timeout: float, most: int
) -> None:
    forecast = Forecast()
    for jobs in (1, 30, 2, 20) * 20:
        forecast.observe(0, fixed + 0.01 * jobs, jobs)
    flow: Flow[Any] = Flow(Caller("a", 0.0), 0)
    flow.keys[None] = OrderedDict((Waiting(timeout, 100 + timeout, place), None) for place in range(50))
    deadlines = Deadlines(forecast, Limits(256, 256, 4096, 4096, 0.1))
    assert deadlines.most_jobs(flow, 100.0) == pytest.approx(most, abs=1)
