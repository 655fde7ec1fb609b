"""The log: one JSON object per line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, MutableMapping
from contextvars import ContextVar
from typing import Any

import orjson
import structlog

from ..runtime.line_buffer import LINES
from ..settings import Settings

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
        wrapper_class=_never_raising(structlog.make_filtering_bound_logger(level)),
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
    # Uvicorn tells the start and the end of each process, which the service does itself.
    logging.getLogger("uvicorn").setLevel(max(level, logging.WARNING))
    # A write to the log that fails is no reason to write about it.
    logging.raiseExceptions = False


def _add_request_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    request_id = REQUEST_ID.get()
    if request_id is not None:
        event["request_id"] = request_id
    return event


def _never_raising(logger: type[Any]) -> type[Any]:
    """A class of loggers like `logger`, which lose a line that cannot be formatted.

    It may be out of memory, or have a value whose text cannot be found. What the line tells of goes on.
    """

    class Logger(logger):  # type: ignore[misc]  # structlog makes the class for the level
        """Loses lines instead of raising."""

        def _proxy_to_logger(self, *arguments: Any, **fields: Any) -> Any:
            try:
                return super()._proxy_to_logger(*arguments, **fields)
            except Exception:
                LINES.lose()

    return Logger


class _LineLogger:
    """Where structlog's lines end. They are rare, except for those of requests, so they are written at once."""

    def __init__(self, *_: object) -> None: ...

    def msg(self, line: str) -> None:
        LINES.write(line)

    debug = info = warning = error = critical = msg


class _LineHandler(logging.Handler):
    """Where the standard library's lines end."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            LINES.write(self.format(record))
        except Exception:
            LINES.lose()


def _dumps(value: object, default: Callable[[object], object]) -> str:
    try:
        return orjson.dumps(value, default=default).decode()
    except TypeError:  # a text is not Unicode, such as the name of a file
        return json.dumps(value, default=default)
