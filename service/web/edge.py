"""The edge: the outermost ASGI layer, with the rules that apply to every request.

It is pure ASGI, because Starlette's BaseHTTPMiddleware hides client disconnects from the application.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import BodyTooLarge, ShuttingDown
from ..runtime.board import Seat
from ..runtime.caller import CALLER, SCOPE_CALLER
from .access_log import AccessLog
from .cycle import Cycle, Headers
from .door import SAFE_ID
from .failures import REJECTED, internal
from .holding import SMALL_BODY_BYTES, Holding
from .media import HEADERS
from .metrics import Metrics
from .observability import REQUEST_ID, log
from .parts import BodyLimits
from .problems import from_domain
from .routing import STARTED
from .threads import when_unused

# A client that reads at once would take a larger body in one call, which holds the interpreter's lock.
PIECE_BYTES = 1 << 18
# Nginx's status for a client that closed the connection before its answer. It is logged and counted, never sent.
CLIENT_CLOSED_REQUEST = 499
CLOSE_HEADER = (b"connection", b"close")


class Edge:
    """Request ids, HEAD, body limits, cancellation of abandoned requests, metrics, access log, unexpected errors."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        access_log: AccessLog,
        limits: BodyLimits,
        seat: Seat,
        caller: Callable[[Scope], str],
        root_path: str = "",
    ) -> None:
        self.app = app
        self.caller = caller
        self.root_path = root_path
        self.metrics = metrics
        self.access_log = access_log
        self.limits = limits
        self.seat = seat
        # An id for each request: a random number for this object, then a counter.
        self._prefix = secrets.token_hex(4)
        self._counter = itertools.count(secrets.randbits(32))

    def new_id(self) -> str:
        """An id that no other request has: 16 hexadecimal digits."""
        return f"{self._prefix}{next(self._counter) & 0xFFFFFFFF:08x}"

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Handle one ASGI scope. Scopes other than HTTP pass through unchanged."""
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        if self.root_path:
            scope = _below(self.root_path, scope)
        return _Exchange(self, scope, receive, send).run()


def _below(root_path: str, scope: Scope) -> Scope:
    """The scope with the root path in front of its path, as ASGI requires, whether or not a proxy stripped it."""
    below = {**scope, "root_path": root_path}
    if scope["path"] != root_path and not scope["path"].startswith(root_path + "/"):
        below["path"] = root_path + scope["path"]
        if scope.get("raw_path") is not None:
            below["raw_path"] = root_path.encode() + scope["raw_path"]
    return below


class _Exchange:
    """One request and its answer. It is the `send` of the layers below."""

    def __init__(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        self.edge = edge
        self.method: str = scope["method"]
        # HEAD is handled as GET (RFC 9110, 9.3.2). The server omits the body, because its own scope still says HEAD.
        self.scope = {**scope, "method": "GET"} if self.method == "HEAD" else scope
        self._receive = receive
        self._send = send
        self.status = 0
        self.body_bytes = 0
        self.holding: Holding | None = None
        self.client_gone = False
        headers = self.scope.get(HEADERS)
        if headers is None:
            headers = self.scope[HEADERS] = dict(scope["headers"])
        given = headers.get(b"x-request-id")
        self.request_id = given.decode() if given and SAFE_ID.fullmatch(given) else edge.new_id()
        self.declared_bytes = int(headers.get(b"content-length", 0))

    async def run(self) -> None:
        edge = self.edge
        REQUEST_ID.set(self.request_id)
        CALLER.set(self.scope.get(SCOPE_CALLER) or edge.caller(self.scope))
        # The protocol notes when the first byte arrived.
        start: float = self.scope.setdefault(STARTED, time.perf_counter())
        edge.metrics.in_flight.add(1)
        try:
            if isinstance(self._send, Cycle):
                self._send.watch(self._gone)
            await edge.app(self.scope, self.receive, self)
        except asyncio.CancelledError:
            if task := asyncio.current_task():
                task.uncancel()
            if self.client_gone:
                self.status = CLIENT_CLOSED_REQUEST
            elif self.status == 0:  # the shutdown's timeout passed
                late = ShuttingDown("the service stopped before this request was finished; try again", retry_after=1)
                await from_domain(late)(self.scope, self.receive, self)
        except ClientDisconnect:  # the client left while it sent its body, or the connection has rejected the body
            self.status = self.scope.get("state", {}).get(REJECTED, CLIENT_CLOSED_REQUEST)
        except Exception as error:
            log.error("request failed", path=self.scope["path"], exc_info=error)
            if self.status == 0:
                await internal()(self.scope, self.receive, self)
        finally:
            if self.holding is not None:
                when_unused(self.holding.release)
            edge.metrics.in_flight.add(-1)
            self._record(time.perf_counter() - start)

    def _gone(self, task: asyncio.Task[None]) -> None:
        """Cancel the request, whose client has left."""
        self.client_gone = True
        task.cancel()

    async def receive(self) -> Message:
        edge = self.edge
        # A declared length is checked before the body is read. Without one, the bytes are counted as they arrive.
        if max(self.declared_bytes, self.body_bytes) > edge.limits.body_bytes:
            raise BodyTooLarge(
                f"a body of {max(self.declared_bytes, self.body_bytes)} bytes is too large",
                allowed=f"at most {edge.limits.body_bytes} bytes",
            )
        message = await self._receive()
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self.body_bytes += size
            if self.body_bytes > edge.limits.body_bytes:
                return await self.receive()
            if self.body_bytes > SMALL_BODY_BYTES:
                if self.holding is None:
                    self.holding = Holding(edge.seat, edge.limits.inflight_bytes, CALLER.get())
                self.holding.grow(self.body_bytes)
        return message

    async def __call__(self, message: Message) -> None:
        """Send a message of the application."""
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
            message["headers"] = [*message.get("headers", ()), *self._own_headers()]
        elif len(message.get("body", b"")) > PIECE_BYTES:
            await self._send_in_pieces(message)
            return
        await self._send(message)
        if message.get("more_body"):
            await asyncio.sleep(0)  # a client that reads at once would take all parts in one turn of the event loop

    def answer(self, status: int, headers: Headers, body: bytes | memoryview) -> bool:
        """Send a whole answer at once. Returns False, and sends nothing, if it must go out message by message."""
        if len(body) > PIECE_BYTES or not isinstance(self._send, Cycle):
            return False
        is_sent = self._send.answer(status, [*headers, *self._own_headers()], body)
        if is_sent:
            self.status = int(status)  # and not HTTPStatus, whose name a log for people would have
        return is_sent

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        own = [(b"x-request-id", self.request_id.encode())]
        if self.edge.seat.board.draining:  # a request that the client sends later could be lost at the end
            own.append(CLOSE_HEADER)
        return own

    async def _send_in_pieces(self, message: Message) -> None:
        body = memoryview(message["body"])
        for start in range(0, len(body), PIECE_BYTES):
            more = start + PIECE_BYTES < len(body) or message.get("more_body", False)
            await self({**message, "body": body[start : start + PIECE_BYTES], "more_body": more})

    def _record(self, seconds: float) -> None:
        route = self.scope.get("route")
        # The route's template, because each mistyped raw path would create a time series of its own.
        path = getattr(route, "path", "unmatched")
        self.edge.metrics.answered(self.method, path, self.status, seconds, self.request_id)
        self.edge.access_log.record(
            self.request_id, self.method, self.scope["path"], self.status, seconds, self.body_bytes, CALLER.get()
        )
