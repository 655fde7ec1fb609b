"""Totals over the metrics of several processes."""

from __future__ import annotations

import orjson
import pytest

from service.runtime.instruments import Counter, Description, Gauge, Histogram, Rule, snapshot
from service.runtime.totals import Family, lasting, total

BOUNDS = (1.0, 10.0)


def family(name: str, snapshots: list[bytes]) -> Family:
    (found,) = [one for one in total(snapshots) if one["name"] == name]
    return found


def counted(**values: float) -> bytes:
    counter = Counter(Description("requests", "Requests.", ("route",)))
    for route, value in values.items():
        counter.add((route,), value)
    return snapshot([counter])


def observed(*values: float, request_id: str = "") -> bytes:
    histogram = Histogram(Description("seconds", "Seconds.", ("route",)), BOUNDS)
    for value in values:
        histogram.of(("a",)).observe(value, request_id)
    return snapshot([histogram])


def measured(value: float, rule: Rule) -> bytes:
    gauge = Gauge(Description("level", "Level."), rule)
    gauge.set(value)
    return snapshot([gauge])


def test_counters_add_up_for_each_combination_of_labels() -> None:
    assert family("requests", [counted(a=1, b=2), counted(b=3, c=4)])["series"] == [[["a"], 1], [["b"], 5], [["c"], 4]]


def test_histograms_add_up_as_if_one_process_had_observed_all_values() -> None:
    parts = family("seconds", [observed(0.5, 1.0, 99.0), observed(2.0, 0.25)])
    assert parts == family("seconds", [observed(0.5, 1.0, 99.0, 2.0, 0.25)])
    assert parts["series"] == [[["a"], [3, 1, 1], 102.75, [None, None, None]]]


@pytest.mark.parametrize(("rule", "expected"), [("sum", 5), ("min", 2), ("max", 3)])
def test_a_gauge_follows_its_rule(rule: Rule, expected: float) -> None:
    assert family("level", [measured(2, rule), measured(3, rule)])["series"] == [[[], expected]]


def test_the_newest_exemplar_of_a_bucket_remains() -> None:
    older, newer = observed(0.5, 20.0, request_id="older"), observed(0.25, request_id="newer")
    for snapshots in ([older, newer], [newer, older]):
        ((_, _, _, exemplars),) = family("seconds", snapshots)["series"]
        assert [exemplar and exemplar[0] for exemplar in exemplars] == ["newer", None, "older"]


def test_of_a_process_that_ended_its_counters_and_histograms_remain() -> None:
    jobs = Counter(Description("jobs", "Jobs."))
    jobs.add((), 3)
    kept = lasting([measured(2, "sum"), snapshot([jobs]), observed(0.5)])
    assert [one["name"] for one in orjson.loads(kept)] == ["jobs", "seconds"]
    assert total([kept, kept])[0]["series"] == [[[], 6]]
