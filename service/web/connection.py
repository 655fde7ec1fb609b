"""Uvicorn's httptools protocol for HTTP/1.1, with other rules for upgrades, headers, parser errors and slow clients."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from .cycle import Cycle
from .failures import REJECTED
from .flow import Flow
from .head_rules import FORBIDDEN_AFTER_CHUNKS, KNOWN_HOSTS, Rejection, check_head
from .heads import whole
from .media import HEADERS
from .observability import log
from .problems import problem
from .watch import MOST_FRAMING_BYTES, Patience, Phase, Watch

MAX_HEADER_BYTES = 64 * 1024
# Seconds in which a client that is still sending can read the answer to a request that was refused.
LINGER_SECONDS = 2.0
# Seconds in which a stopping process still reads from an idle connection.
LAST_REQUEST_SECONDS = 0.1
# Requests that wait behind one that runs. With more the connection is not read, and does not tell that its client left.
MOST_WAITING = 8
_SLASH = ord("/")
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class Connection(HttpToolsProtocol):
    """One connection. It reads each request, and rejects those that break the rules of HTTP or come too slowly.

    Uvicorn's methods for each request are replaced and not extended, because small requests are most of the work.
    """

    cycle: Cycle
    flow: Flow

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        patience: Patience = Patience(),  # noqa: B008 (it is immutable)
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._patience = patience
        self._in_message = self._in_head = False
        self._is_offer = False  # the head offers an upgrade
        self._is_ending = False  # nothing more is read
        self._is_closing = False  # nothing more is answered
        self._discards = False  # the request has been answered, and its body is not kept
        self._header_bytes = self._hosts = 0
        self._version = "1.1"
        self._fields: dict[bytes, bytes] = {}
        self._began = 0.0
        # With requests in the pipeline, `cycle` is the last of them.
        self._running: Cycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request."""
        super().connection_made(transport)
        self.flow = Flow(transport, self.loop, self._patience.body)
        self._watch = Watch(self._patience, self.loop, self._expired, self._is_ours)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer, and the request that runs."""
        self._watch.stop()
        self.flow.stop()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnect()
        super().connection_lost(exc)

    # -- the client's time --------------------------------------------------------------------------------------

    def _is_ours(self) -> bool:
        """Whether the client waits for the service: it does not read, or it computes the answer."""
        cycle = self.cycle
        return self.flow.read_paused or (not self._in_message and cycle is not None and not cycle.response_complete)

    def _expired(self, phase: Phase) -> None:
        cycle = self.cycle
        if not self._in_message or (phase is Phase.BODY and (cycle is None or cycle.response_complete)):
            self.transport.close()  # once the client has taken its answer
            self.flow.finish()
        else:
            self._reject(408, "request-timeout", f"{phase.value} did not arrive in time")

    # -- the parser ---------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Pass the bytes to the parser."""
        if self._is_ending:
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            self._decline(data[offer.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._reject_malformed(error)
            return
        # Most requests arrive at once, so their phases need no check.
        if self._in_message:
            phase = Phase.HEAD if self._in_head else Phase.BODY
            if self._watch.phase is not phase:
                self._watch.enter(phase)
            self._watch.check()
            is_excessive = phase is Phase.BODY and self._watch.framing(len(data)) > MOST_FRAMING_BYTES
            if is_excessive and not (self._discards or self.cycle.response_complete):
                self._reject(400, "malformed-request", "the body has too few bytes for the size of its chunks")

    def _decline(self, rest: bytes) -> None:
        """Read the request again without its offer to upgrade.

        A server may ignore such an offer (RFC 9110, 7.8). Some clients always make one: Java's client offers HTTP/2
        with its first request. The parser, however, stops after the head, and the body would be lost.
        """
        self._is_offer = False
        lines = [b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self._version.encode())]
        lines += [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"".join([*lines, b"\r\n", rest]))

    def on_message_begin(self) -> None:
        """Note when the request began, and begin to count the bytes of its headers."""
        self._began = time.perf_counter()
        self._in_message = self._in_head = True
        self._header_bytes = self._hosts = 0
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_url(self, url: bytes) -> None:
        """Read a part of the request's target, which counts as a header."""
        self.url += url
        if len(self.url) > MAX_HEADER_BYTES:
            raise Rejection(414, "uri-too-long", f"the request's target has more than {MAX_HEADER_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Read a header, or refuse the request if its headers, with those after its chunks, are too large."""
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise Rejection(431, "headers-too-large", f"the request's headers have more than {MAX_HEADER_BYTES} bytes")
        name = name.lower()
        if not self._in_head:  # after the chunks of a body; such fields are no headers
            if name in FORBIDDEN_AFTER_CHUNKS:
                raise ValueError(f"{name.decode()} is not allowed after the chunks of a body")
            return
        if name == b"host":
            self._hosts += 1
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the request, or reject it if its head breaks a rule."""
        version = self._version = self.parser.get_http_version()
        # The door and the layers above look up headers, too, in this dict.
        fields = self._fields = dict(self.headers)
        is_usual = self._hosts == 1 and fields[b"host"] in KNOWN_HOSTS and version == "1.1"
        if not is_usual or b"transfer-encoding" in fields:
            check_head(version, self.headers)
        self._in_head = False
        if not self.parser.should_upgrade():
            self.take()
        elif self.parser.get_method() == b"CONNECT":
            raise Rejection(501, "not-implemented", "the service is no proxy, so it does not implement CONNECT")
        else:
            self._is_offer = True

    def take(self) -> None:
        """Start the request whose head has been read, or queue it behind the one before."""
        self.start_or_queue(self.new_scope())

    def new_scope(self) -> dict[str, Any]:
        """The ASGI scope of the request whose head has been read."""
        url = self.url
        if url[0] == _SLASH and b"#" not in url:
            raw_path, _, query = url.partition(b"?")
        else:
            parsed = httptools.parse_url(url)
            raw_path, query = parsed.path or b"/", parsed.query or b""
        path = raw_path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": self._version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
            "headers": self.headers,
            "state": self.app_state.copy(),
            "method": self.parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
            HEADERS: self._fields,
        }

    def start_or_queue(self, scope: dict[str, Any]) -> None:
        """Start a request, or queue it behind the one before."""
        before = self.cycle
        self.cycle = cycle = Cycle(
            self,
            scope,
            self.transport,
            self.flow,
            self.server_state.default_headers,
            self.expect_100_continue,
            self._version != "1.0" and self.parser.should_keep_alive(),
        )
        if before is None or before.response_complete:
            self.start(cycle)
        else:
            self.pipeline.appendleft((cycle, self.app))
            if len(self.pipeline) >= MOST_WAITING:
                self.flow.pause_reading()

    def start(self, cycle: Cycle) -> None:
        """Run the application on a request."""
        cycle.task = task = self.loop.create_task(cycle.run_asgi(self.app))
        self.tasks.add(task)
        self._running = cycle

    def ended(self, cycle: Cycle) -> None:
        """Note that the application has ended on a request."""
        # Here and not in a callback of the task, which would take another turn of the event loop.
        self.tasks.discard(cycle.task)
        if self._running is cycle:
            self._running = None

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body, unless the request has been answered."""
        cycle = self.cycle
        if self._discards or cycle.response_complete:
            return
        self._watch.received(len(body))
        if cycle.take(body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Note that the next bytes begin a new request."""
        if self._is_offer:
            return
        self._in_message = False
        if self._discards or self.cycle.response_complete:
            self._discards = False
            self._watch.enter(Phase.IDLE)
        else:
            self.cycle.more_body = False
            self.cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Go on with the next request."""
        self.server_state.total_requests += 1
        if self.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle: Any = self.pipeline.pop()[0]
            self.start(cycle)
        elif not self._in_message:
            self._watch.enter(Phase.IDLE)

    def _reject_malformed(self, error: httptools.HttpParserError) -> None:
        """Answer bytes that are not valid HTTP, or a head that breaks a rule."""
        cause = error.__context__ or error
        if isinstance(cause, Rejection):
            self._reject(cause.status, cause.slug, str(cause))
        elif isinstance(cause, ValueError | httptools.HttpParserError):
            self._reject(400, "malformed-request", f"the request is not valid HTTP/1.1: {cause}")
        else:
            log.error("request failed", exc_info=cause)
            self._reject(500, "internal", "the service failed on this request; its log has the cause")

    def _reject(self, status: int, slug: str, detail: str) -> None:
        """Answer with a problem, and close the connection.

        Earlier complete requests are still answered. The connection then closes without this answer.
        """
        if self.is_closing():
            return
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if not cycle.more_body:
                cycle.keep_alive = False
                self._is_ending = True
                return
            # The body of this request is damaged or late, and the application still waits for the rest of it.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.close()
                return
            cycle.scope["state"][REJECTED] = status
        else:
            self.rejected(status)
        request_id = secrets.token_hex(8)
        log.info("malformed request", request_id=request_id, reason=detail)
        self.transport.write(whole(problem(status, slug, detail), [(b"x-request-id", request_id.encode())]))
        self._linger()

    def rejected(self, status: int) -> None:
        """Note that a request was rejected before the application has seen it."""

    def shutdown(self) -> None:
        """Close the connection, once it has answered; an idle one after a moment.

        A request may have arrived that was not read yet. If the connection were closed at once, it would be reset.
        """
        if self._is_idle():
            self.loop.call_later(LAST_REQUEST_SECONDS, self._close_last)
        else:
            self.cycle.keep_alive = False

    def _close_last(self) -> None:
        if self._is_idle():
            self.close()
        else:
            self.cycle.keep_alive = False

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def close(self) -> None:
        """Close the connection; after a moment, if the client is still sending."""
        if self._in_message and not self._is_ending:
            self._linger()
        else:
            self._is_closing = True
            self.transport.close()

    def is_closing(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return self._is_closing or self.transport.is_closing()

    def _linger(self) -> None:
        """Close the connection, after a moment in which a client that is still sending can read the answer.

        If the connection were closed at once, bytes that arrive later would cause a reset. It destroys the answer if
        the client has not read it (RFC 9112, 9.6). Most clients read once all is sent.
        """
        self._is_ending = self._is_closing = True
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)
