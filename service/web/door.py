"""Admission control: which requests are refused before their body is read and before a task exists for them."""

from __future__ import annotations

import asyncio
import itertools
import math
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from starlette.types import Scope

from ..errors import Overloaded
from ..runtime.admission import Admission
from ..runtime.verdicts import Verdicts
from ..settings import Settings
from .heads import completed, whole
from .metrics import Metrics
from .observability import log
from .peers import Peers
from .problems import from_domain, problem
from .watch import Patience

ValueT = TypeVar("ValueT")

SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# Requests that differ in their seed alone take about as long as one another.
_SEED = re.compile(rb"\bseed=[0-9]+")
# Paths that are always admitted, so that monitoring works under overload.
PROBES = ("/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready")
# Seconds between two log lines about refusals.
REPORT_SECONDS = 1.0
# A refusal takes about 40 us. Clients that repeat a refused request at once would take all of the processor. Their
# connections are therefore read again in turn, one in this time: refusals take a twentieth of a core. None waits longer
# than its Retry-After, and the first refusals after a while do not wait. A longer time would make requests late that
# others send over the same connections, as a proxy does.
PACE_SECONDS = 0.001
# The same for a request that was refused after it had been read, which takes about 250 us.
READ_PACE_SECONDS = 0.005
MOST_PAUSE_SECONDS = 2.0
FREE_SECONDS = 0.1

FULL = whole(
    from_domain(
        Overloaded("the service stops, or has as many connections as LATENTSERVE_CONNECTIONS allows", retry_after=1)
    )
)
"""The answer to a connection beyond the limit."""


class Refused(NamedTuple):
    """The answer to a request that is refused."""

    answer: bytes
    """Head and body."""
    pause: float
    """Seconds in which the connection is not read."""


class Door:
    """Admits or refuses requests.

    Args:
        patience: seconds that the service waits for a client.
        max_wait: seconds that a request without a deadline may be predicted to take.
        metrics: counts refusals.
        lanes: the predicted wait of small jobs in the lane of the paths that begin so.
        caller: names the caller of an ASGI scope.
        root_path: path prefix that a proxy may have stripped.
        is_draining: whether answers close their connection.
    """

    def __init__(
        self,
        patience: Patience = Patience(),  # noqa: B008 (it is immutable)
        max_wait: float = math.inf,
        metrics: Metrics | None = None,
        lanes: Mapping[str, Callable[[], float]] | None = None,
        caller: Callable[[Scope], str] = Peers().name,  # noqa: B008
        root_path: str = "",
        is_draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self.patience = patience
        self.admission = Admission(max_wait, _later, time.perf_counter)
        self._verdicts = Verdicts(time.perf_counter)
        self.caller = caller
        """The caller of an ASGI scope."""
        self._metrics = metrics
        self._lanes = {path.encode(): wait for path, wait in _with_root(root_path, lanes or {}).items()}
        self._probes = frozenset(path.encode() for path in _with_root(root_path, dict.fromkeys(PROBES)))
        self._root_length = len(root_path)
        self._is_draining = is_draining
        self._prefix = secrets.token_hex(4)
        self._counter = itertools.count(secrets.randbits(32))
        self._turn = 0.0
        self._refusals = 0
        self._reports: asyncio.TimerHandle | None = None
        detail = (
            "the service has more requests in progress than it can answer in time; try again later, or allow more "
            "time with X-Timeout-Seconds"
        )
        self._body = bytes(problem(503, "overloaded", detail).body)
        self._head = completed(
            b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\n\r\n"
            % len(self._body)
        )[:-2]

    @classmethod
    def of(
        cls, settings: Settings, metrics: Metrics, caller: Callable[[Scope], str], is_draining: Callable[[], bool]
    ) -> Door:
        """Admission control of a service with these settings. Each lane of `metrics` has the paths of its name."""
        patience = Patience(settings.header_seconds, settings.body_idle_seconds, settings.keepalive_seconds)
        lanes = {f"/{name}/": line.wait for name, line in metrics.lines.items()}
        return cls(patience, settings.max_wait_seconds, metrics, lanes, caller, settings.root_path, is_draining)

    def new_id(self) -> bytes:
        """An id that no other request has: 16 hexadecimal digits."""
        return b"%b%08x" % (self._prefix.encode(), next(self._counter) & 0xFFFFFFFF)

    def is_probe(self, url: bytes) -> bool:
        """Whether the target of a request is that of a probe."""
        return url in self._probes

    def excess(self, url: bytes, scope: Scope, timeout: float | None) -> float:
        """The predicted seconds of a request that is to be refused; 0 if it is to be admitted.

        Args:
            url: target of the request.
            scope: its ASGI scope.
            timeout: seconds until its deadline; None without one.
        """
        lane = self._lanes.get(url[: url.find(b"/", 1) + 1]) or (
            self._lanes.get(url[: url.find(b"/", self._root_length + 1) + 1]) if self._root_length else None
        )
        late = self.admission.late(timeout, 0.0 if lane is None else lane())
        if not late and timeout is not None and self._verdicts:
            late = self._verdicts.late(self._kind(scope), timeout)
        if not late or url in self._probes or self.admission.spares(self.caller(scope), timeout, late):
            return 0.0
        return late

    def ended(self, scope: Scope, predicted: float | None) -> None:
        """Note that an admitted request was answered, or that its lane refused it.

        Args:
            scope: its ASGI scope.
            predicted: the seconds that its lane predicted, 0 if it was refused for another reason; None if it was not.
        """
        if predicted:
            self._verdicts.refused(self._kind(scope), predicted)
        elif predicted is None and self._verdicts:
            self._verdicts.answered(self._kind(scope))

    def _kind(self, scope: Scope) -> tuple[str, bytes, bytes, int]:
        """The kind of a request: those of one kind probably take about as long as one another."""
        length = next((int(value) for name, value in scope["headers"] if name == b"content-length"), 0)
        return self.caller(scope), scope["raw_path"], _SEED.sub(b"", scope["query_string"]), length.bit_length()

    def refuse(self, method: bytes, request_id: bytes, predicted: float, *, close: bool, may_pause: bool) -> Refused:
        """The answer to a request that is refused.

        Args:
            method: of the request.
            request_id: its id.
            predicted: the seconds that it would take.
            close: whether the connection closes after the answer.
            may_pause: whether the connection may be paused.
        """
        self._refusals += 1
        if self._metrics is not None:
            self._metrics.refused(method.decode("latin-1"))
        if self._reports is None:
            self._reports = asyncio.get_running_loop().call_later(REPORT_SECONDS, self._report)
        pause = self.next_turn(PACE_SECONDS) if may_pause else 0.0
        closing = b"connection: close\r\n" if close or self._is_draining() else b""
        head = b"%bretry-after: %d\r\nx-request-id: %b\r\n%b\r\n" % (
            self._head, max(1, math.ceil(predicted), math.ceil(pause)), request_id, closing
        )  # fmt: skip
        return Refused(head if method == b"HEAD" else head + self._body, pause)

    def rejected(self, status: int) -> None:
        """Count a request that is not valid HTTP, or came too slowly."""
        if self._metrics is not None:
            self._metrics.refused("unknown", status)

    def next_turn(self, pace: float) -> float:
        """Seconds until the turn of one more connection, each of which has `pace` seconds."""
        now = time.perf_counter()
        self._turn = min(max(self._turn, now) + pace, now + MOST_PAUSE_SECONDS + FREE_SECONDS)
        return min(max(0.0, self._turn - now - FREE_SECONDS), MOST_PAUSE_SECONDS)  # rounding could exceed it

    def _report(self) -> None:
        admission, refused, self._refusals = self.admission, self._refusals, 0
        if not refused:
            self._reports = None
            return
        self._reports = asyncio.get_running_loop().call_later(REPORT_SECONDS, self._report)
        log.warning(
            "requests refused",
            reason="overloaded",
            refused=refused,
            in_progress=admission.in_progress,
            predicted_seconds=round(admission.predicted(), 3),
            lag_seconds=round(admission.lag, 3),
        )


def _later(seconds: float, call: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, call)


def _with_root(root_path: str, paths: Mapping[str, ValueT]) -> dict[str, ValueT]:
    """The paths with and without the prefix."""
    return {prefix + path: value for path, value in paths.items() for prefix in {"", root_path}}
