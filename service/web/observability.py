"""Logs and metrics: one JSON object per log line, and Prometheus metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping, Sequence
from contextvars import ContextVar
from typing import Any

import orjson
import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from ..settings import Settings
from .line_buffer import LINES

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

log: structlog.stdlib.BoundLogger = structlog.get_logger("latentserve")

# The id of the request that the current task or context serves.
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)


def configure_logging(settings: Settings) -> None:
    """Send all log lines, including those of libraries, to stderr in one format. Call this once per process."""
    shared: list[structlog.typing.Processor] = [
        _add_request_id,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if settings.log_format == "console"
        else structlog.processors.JSONRenderer(serializer=_dumps)
    )
    render = [structlog.processors.format_exc_info, last] if settings.log_format == "json" else [last]
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_LineLogger,
        cache_logger_on_first_use=True,
    )
    handler = _LineHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.INFO), force=True)


def _add_request_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    request_id = REQUEST_ID.get()
    if request_id is not None:
        event["request_id"] = request_id
    return event


class _LineLogger:
    """Where structlog's lines end. They are rare, except for those of requests, so they are written at once."""

    def __init__(self, *_: object) -> None: ...

    def msg(self, line: str) -> None:
        LINES.write(line)

    debug = info = warning = error = critical = msg


class _LineHandler(logging.Handler):
    """Where the standard library's lines end."""

    def emit(self, record: logging.LogRecord) -> None:
        LINES.write(self.format(record))


def _dumps(value: object, default: Callable[[object], object]) -> str:
    return orjson.dumps(value, default=default).decode()


class Metrics:
    """All metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = Counter(
            "latentserve_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "latentserve_request_seconds",
            "Seconds from a request's first byte to its answer's last.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("latentserve_requests_in_flight", "Requests in progress.", registry=self.registry)
        self.queue_items = Gauge(
            "latentserve_queue_items", "Jobs in the queue of the lane.", ["engine"], registry=self.registry
        )
        self.queue_cost = Gauge(
            "latentserve_queue_cost",
            "Queued work, in the unit of the lane (images, elements or pairs).",
            ["engine"],
            registry=self.registry,
        )
        self.queue_seconds = Histogram(
            "latentserve_queue_seconds",
            "Seconds from the arrival of a job to the start of its batch.",
            ["engine"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "latentserve_batch_size", "Jobs in one batch.", ["engine"], buckets=SIZES, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "latentserve_batch_seconds",
            "Seconds that the device took for one batch.",
            ["engine"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.failures = Counter(
            "latentserve_job_failures", "Jobs on which the worker failed.", ["engine"], registry=self.registry
        )

    def engine(self, name: str) -> EngineObserver:
        """The observer for the Batcher of that name."""
        return EngineObserver(self, name)

    def text(self) -> bytes:
        """The registry in Prometheus' text format."""
        return generate_latest(self.registry)


class EngineObserver:
    """Records the events of one Batcher as metrics and log lines."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._name = name
        self._items = metrics.queue_items.labels(name)
        self._cost = metrics.queue_cost.labels(name)
        self._waits = metrics.queue_seconds.labels(name)
        self._size = metrics.batch_size.labels(name)
        self._seconds = metrics.batch_seconds.labels(name)
        self._failures = metrics.failures.labels(name)

    def queued(self, items: int, cost: float) -> None:
        """Set the queue's gauges."""
        self._items.set(items)
        self._cost.set(cost)

    def dispatched(self, waits: Sequence[float]) -> None:
        """Observe the batch's size and each job's wait."""
        self._size.observe(len(waits))
        for wait in waits:
            self._waits.observe(wait)

    def finished(self, items: int, seconds: float) -> None:
        """Observe the device's time."""
        self._seconds.observe(seconds)

    def failed(self, error: BaseException) -> None:
        """Count the failure, and log its traceback, which the answer does not contain."""
        self._failures.inc()
        log.error("job failed", engine=self._name, exc_info=error)
