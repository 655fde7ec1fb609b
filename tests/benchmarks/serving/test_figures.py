"""Percentiles, goodput and arrivals of a load test have closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.serving.figures import GOOD_SECONDS, Sample, arrivals, percentile, shares, together


@pytest.mark.parametrize("share", [0.01, 0.07, 0.5, 0.99, 0.999, 1.0])
def test_a_percentile_is_the_smallest_value_that_the_share_does_not_exceed(share: float) -> None:
    values = np.random.default_rng(0).permutation(np.arange(1000.0))
    assert percentile(values, share) == round(1000 * share) - 1


def test_a_percentile_of_few_values_is_one_of_them_and_of_none_is_nan() -> None:
    assert percentile(np.array([3.0]), 0.001) == percentile(np.array([3.0]), 0.999) == 3
    assert percentile(np.array([1.0, 2.0, 3.0]), 0.5) == 2
    assert math.isnan(percentile(np.empty(0), 0.5))


def test_even_arrivals_are_at_multiples_of_the_interval() -> None:
    assert arrivals(10, 0.5).tolist() == [0, 0.1, 0.2, 0.3, 0.4]
    assert len(arrivals(1000, 0.7)) == 700
    assert len(arrivals(0.5, 1)) == 1


def test_poisson_arrivals_have_the_rate_and_exponential_gaps() -> None:
    starts = arrivals(1000, 100, seed=1)
    gaps = np.diff(starts)
    assert starts[0] > 0
    assert starts[-1] < 100
    assert np.all(gaps >= 0)
    # Six standard deviations: the count is Poisson, and the gaps' deviation equals their mean.
    assert abs(len(starts) - 100_000) < 6 * math.sqrt(100_000)
    assert abs(gaps.std() / gaps.mean() - 1) < 6 / math.sqrt(len(gaps))


def test_goodput_counts_answers_in_time_and_the_share_counts_all_requests() -> None:
    late = np.nextafter(GOOD_SECONDS, 1)
    sample = Sample(np.array([0.001, GOOD_SECONDS, late, 1.0]), seconds=2.0, errors=1, unanswered=3)
    assert sample.rate == 2
    assert sample.goodput == 1
    assert sample.good_share == 2 / 8


def test_requests_without_an_answer_are_later_than_all_answers() -> None:
    sample = Sample(np.arange(1.0, 100.0), seconds=1.0, unanswered=1)
    assert sample.latency(0.99) == 99
    assert math.isinf(sample.latency(1.0))


def test_samples_of_several_clients_add_up() -> None:
    one = Sample(np.array([1.0, 2.0]), 2.0, 1, 0, 0.5, 0.25, 7)
    other = Sample(np.array([3.0]), 2.0, 0, 2, 0.5, 0.5, 5)
    both = together([one, other])
    assert both.latencies.tolist() == [1, 2, 3]
    assert both[1:] == (2.0, 1, 2, 1.0, 0.75, 12)
    assert both.rate == one.rate + other.rate


@pytest.mark.parametrize(("total", "parts"), [(64, 3), (2, 5), (12, 4)])
def test_shares_are_even_and_add_up(total: int, parts: int) -> None:
    found = list(shares(total, parts))
    assert len(found) == parts
    assert sum(found) == total
    assert max(found) - min(found) <= 1
