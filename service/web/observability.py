"""The log: one JSON object per line."""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

import orjson
import structlog

from ..settings import Settings
from .line_buffer import LINES

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
