"""The access log: one line for each request, or for a share of them."""

from __future__ import annotations

import time

import orjson

from ..runtime.line_buffer import LINES, LineBuffer
from ..settings import Settings
from .observability import log


class AccessLog:
    """Writes the lines of requests.

    Successful requests are sampled, at equal distances, and their lines are written in groups. Requests that fail or
    are slow always have a line. Lines of faults of the service and of slow requests are written at once.
    """

    def __init__(self, settings: Settings, lines: LineBuffer = LINES) -> None:
        self._share = settings.access_log_share
        self._slow_seconds = settings.slow_seconds
        self._is_json = settings.log_format == "json"
        self._is_enabled = settings.log_level in {"debug", "info"}
        self._lines = lines
        self._due = 0.0
        self._second = -1
        self._date = ""

    def record(
        self, request_id: str, method: str, path: str, status: int, seconds: float, body_bytes: int, caller: str = ""
    ) -> None:
        """Write the line of one request, if it is to have one. It names the API key of the `caller`, not an address."""
        if not self._is_enabled:
            return
        slow = seconds >= self._slow_seconds
        if status < 400 and not slow:
            self._due += self._share
            if self._due < 1:
                return
            self._due -= 1
        fields = {
            "method": method,
            "path": path,
            "status": status,
            "milliseconds": round(seconds * 1000, 3),
            "body_bytes": body_bytes,
        }
        if caller.startswith("key:"):
            fields["key"] = caller.removeprefix("key:")
        if self._is_json:
            # Written here and not by structlog, whose processors take as long as the rest of a small request's log.
            fields["event"], fields["request_id"] = "request", request_id
            fields["level"], fields["timestamp"] = "info", self._now()
            self._lines.write_bytes(
                orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE), urgent=slow or status >= 500
            )
        else:
            log.info("request", **fields)

    def _now(self) -> str:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._date = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._date}.{int((now - second) * 1e6):06d}Z"
