"""The metrics of the service, and their exposition in the formats of Prometheus and OpenMetrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from ..runtime.admission import Line
from ..runtime.instruments import Counter, Description, Gauge, Histogram, Series, snapshot
from ..runtime.totals import Family, total
from ..runtime.usage import Usage
from .observability import log

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """All metrics of one process. `lanes` are those whose waits admission control predicts."""

    def __init__(self, lanes: Sequence[str] = ()) -> None:
        self._usage = Usage()
        self._requests = Counter(
            Description("latentserve_requests", "Requests answered.", ("method", "route", "status"))
        )
        self._request_seconds = Histogram(
            Description(
                "latentserve_request_seconds", "Seconds from a request's first byte to its answer's last.", ("route",)
            ),
            SECONDS,
        )
        self.in_flight = Gauge(Description("latentserve_requests_in_flight", "Requests in progress."))
        self.in_flight.set(0)
        lane = ("engine",)
        self.queue_items = Gauge(Description("latentserve_queue_items", "Jobs in the queue of the lane.", lane))
        self.queue_cost = Gauge(
            Description(
                "latentserve_queue_cost", "Queued work, in the unit of the lane (images, elements or pairs).", lane
            )
        )
        self.queue_seconds = Histogram(
            Description(
                "latentserve_queue_seconds", "Seconds from the arrival of a job to the start of its batch.", lane
            ),
            SECONDS,
        )
        self.batch_size = Histogram(Description("latentserve_batch_size", "Jobs in one batch.", lane), SIZES)
        self.batch_seconds = Histogram(
            Description("latentserve_batch_seconds", "Seconds that the device took for one batch.", lane), SECONDS
        )
        self.lines = {name: Line(time.perf_counter) for name in lanes}
        """The jobs of these lanes."""
        self.failures = Counter(Description("latentserve_job_failures", "Jobs on which the worker failed.", lane))

    def answered(self, method: str, route: str, status: int, seconds: float, request_id: str) -> None:
        """Count one answered request. `route` is the template of its path, and `seconds` its duration."""
        self._requests.add((method, route, str(status)))
        self._request_seconds.of((route,)).observe(seconds, request_id)

    def refused(self, method: str, status: int = 503) -> None:
        """Count one request that was refused before its route was known."""
        self._requests.add((method, "unmatched", str(status)))

    def engine(self, name: str, report: Callable[[int, float], None] = lambda items, cost: None) -> EngineObserver:
        """The observer for the Batcher of that name. `report` receives the length and the cost of its queue."""
        return EngineObserver(self, name, report)

    def measure(self) -> None:
        """Read the use of memory and files for the next snapshot. Call it on a thread: it takes tens of ms."""
        self._usage.measure()

    def snapshot(self) -> bytes:
        """The present values as JSON, for `exposition`."""
        return snapshot(
            [
                *self._usage.instruments(),
                self._requests,
                self._request_seconds,
                self.in_flight,
                self.queue_items,
                self.queue_cost,
                self.queue_seconds,
                self.batch_size,
                self.batch_seconds,
                self.failures,
            ],
            self._usage.refresh,
        )


def exposition(snapshots: Iterable[bytes], accept: str) -> tuple[bytes, str]:
    """The totals over `snapshots` and their media type: OpenMetrics if `accept` names it, else Prometheus' format.

    Only OpenMetrics has exemplars.
    """
    encode, media_type = choose_encoder(accept)
    return encode(_Totals(total(snapshots))), media_type


class _Totals(Collector):
    """Families in the form that prometheus_client's encoders read."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """The families as metrics."""
        for family in self._families:
            name, text, labels = family["name"], family["help"], family["labels"]
            if family["kind"] == "histogram":
                histogram = HistogramMetricFamily(name, text, labels=labels)
                for key, counts, amount, exemplars in family["series"]:
                    histogram.add_metric(key, _buckets(family["bounds"], counts, exemplars), amount)
                yield histogram
                continue
            kind = CounterMetricFamily if family["kind"] == "counter" else GaugeMetricFamily
            metric = kind(name, text, labels=labels)
            for key, value in family["series"]:
                metric.add_metric(key, value)
            yield metric


def _buckets(
    bounds: Sequence[float], counts: Sequence[int], exemplars: Sequence[tuple[str, float, float] | None]
) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    """Upper bound, cumulative count and exemplar of each bucket."""
    names = [*map(floatToGoString, bounds), "+Inf"]
    return [
        (name, count, Exemplar({"request_id": exemplar[0]}, *exemplar[1:])) if exemplar else (name, count)
        for name, count, exemplar in zip(names, accumulate(counts), exemplars, strict=True)
    ]


class EngineObserver:
    """Records the events of one Batcher as metrics and log lines."""

    def __init__(self, metrics: Metrics, name: str, report: Callable[[int, float], None]) -> None:
        self._name = name
        self._report = report
        self._labels = (name,)
        self._items = metrics.queue_items.values
        self._line = metrics.lines.get(name)
        self._cost = metrics.queue_cost.values
        self._failures = metrics.failures
        self._waits: Series = metrics.queue_seconds.of(self._labels)
        self._size: Series = metrics.batch_size.of(self._labels)
        self._seconds: Series = metrics.batch_seconds.of(self._labels)
        self._failures.add(self._labels, 0)
        self.queued(0, 0.0)

    def queued(self, items: int, cost: float) -> None:
        """Set the queue's gauges, and report them to the other processes."""
        if self._line is not None:
            self._line.items = items
        self._report(items, cost)
        self._items[self._labels] = items
        self._cost[self._labels] = cost

    def dispatched(self, waits: Sequence[float]) -> None:
        """Observe the batch's size and each job's wait."""
        if self._line is not None:
            self._line.dispatched(len(waits))
        self._size.observe(len(waits))
        for wait in waits:
            self._waits.observe(wait)

    def finished(self, items: int, seconds: float) -> None:
        """Observe the device's time."""
        if self._line is not None:
            self._line.finished(items, seconds)
        self._seconds.observe(seconds)

    def failed(self, error: BaseException) -> None:
        """Count the failure, and log its traceback, which the answer does not contain."""
        self._failures.add(self._labels)
        log.error("job failed", engine=self._name, exc_info=error)
