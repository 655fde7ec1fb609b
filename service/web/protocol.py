"""A connection with a door: requests are admitted before their body is read, or refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from .connection import Connection
from .door import READ_PACE_SECONDS, SAFE_ID, Door
from .failures import REFUSED
from .routing import STARTED
from .transport import unread_seconds
from .watch import Patience, Phase

# A larger body of a refused request is not read: its connection is closed.
MAX_DISCARDED_BYTES = 256 * 1024
# Seconds for the next request on a connection beyond the limit.
FULL_SECONDS = 2.0
_TIMEOUT = b"x-timeout-seconds"


class Protocol(Connection):
    """One connection.

    Args:
        config: of uvicorn.
        server_state: of uvicorn.
        app_state: of uvicorn.
        door: admits requests; by default all of them.
        full: the answer to all but probes on a connection beyond the limit; empty on all others.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        door: Door | None = None,
        full: bytes = b"",
    ) -> None:
        self._door = door or Door()
        self._full = full
        patience = self._door.patience
        if full:
            patience = Patience(*(min(seconds, FULL_SECONDS) for seconds in patience))
        super().__init__(config, server_state, app_state, _loop, patience)
        self._discards = False  # the request was refused, and its body is not read
        self._began = 0.0
        self._paused_at: float | None = None
        self._pause = 0.0
        self._was_unread = False

    # -- admission ----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Note when the request began."""
        self._began = time.perf_counter()
        super().on_message_begin()

    def take(self) -> None:
        """Start the request, refuse it, or queue it behind the one before."""
        unread = 0.0 if self._paused_at is None else self._unread()
        self._was_unread = unread > 0
        scope: Any = self.scope
        scope[STARTED] = self._began - unread
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            excess = self._excess(scope, self.url)
            if excess:
                # What has waited unread has little time left. If the client tries again, it shall have all of it.
                self._refuse(excess, may_pause=not unread)
                return
        super().take()

    def _excess(self, scope: Any, url: bytes) -> float:
        """The predicted seconds of a request that is to be refused; 0 if it is to be admitted."""
        door = self._door
        if self._full:
            return 0.0 if door.is_probe(url) else 1.0
        timeout = dict(scope["headers"]).get(_TIMEOUT)
        if timeout is None:
            return door.excess(url, scope, None)
        try:
            seconds = float(timeout)
        except ValueError:
            seconds = 0.0
        if not seconds > 0:  # the route refuses it
            return 0.0
        return door.excess(url, scope, seconds - (time.perf_counter() - scope[STARTED]))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        scope: Any = cycle.scope
        caller = self._door.caller(scope)
        number = self._door.admission.enter(caller)
        task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(partial(self._ended, number, caller))
        self.tasks.add(task)

    def _ended(self, number: int, caller: str, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._door.admission.leave(number, caller)

    def on_response_complete(self) -> None:
        """Refuse the queued requests that have become late, and go on with the next."""
        while self.pipeline and not self.transport.is_closing():
            cycle, _ = self.pipeline[-1]
            scope: Any = cycle.scope
            excess = self._excess(scope, scope["raw_path"])
            if not excess:
                break
            self.pipeline.pop()
            cycle.response_complete = True
            self._joining.flush()
            close = not cycle.keep_alive or cycle.waiting_for_100_continue or cycle.more_body
            self._write_refusal(scope["method"].encode(), dict(scope["headers"]), excess, close)
            if close:
                self.pipeline.clear()
        refused = self.cycle.scope["state"].get(REFUSED) and not self.pipeline
        super().on_response_complete()
        if refused and not self._was_unread and not self.transport.is_closing():
            self._pause_reading(self._door.next_turn(READ_PACE_SECONDS))

    # -- refusals -----------------------------------------------------------------------------------------------

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body, unless the request was refused."""
        if not self._discards:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the next bytes begin a new request."""
        if self._discards:
            self._discards = self._in_message = False
            self._watch.enter(Phase.IDLE)
        else:
            super().on_message_complete()

    def _refuse(self, excess: float, may_pause: bool) -> None:
        """Answer the request whose head has just been read, and discard its body."""
        fields = dict(self.headers)
        # Without its length the body may be of any size; a client that waits for 100 may send it or not.
        close = self.expect_100_continue or b"transfer-encoding" in fields or not self.parser.should_keep_alive()
        close = close or int(fields.get(b"content-length", 0)) > MAX_DISCARDED_BYTES
        self._discards = True
        may_pause = may_pause and not close
        self._pause_reading(self._write_refusal(self.parser.get_method(), fields, excess, close, may_pause))

    def _write_refusal(
        self, method: bytes, fields: Mapping[bytes, bytes], excess: float, close: bool, may_pause: bool = False
    ) -> float:
        """Write the answer of a refusal. Returns the seconds in which the connection is not to be read."""
        if self._full:
            self.transport.write(self._full)
            self._linger()
            return 0.0
        given = fields.get(b"x-request-id")
        request_id = given if given and SAFE_ID.fullmatch(given) else self._door.new_id()
        answer, pause = self._door.refuse(method, request_id, excess, close=close, may_pause=may_pause)
        self.transport.write(answer)
        if close:
            self._linger()
        return pause

    def _pause_reading(self, seconds: float) -> None:
        if seconds:
            self._pause = seconds
            self._paused_at = time.perf_counter()
            self.flow.pause_reading()
            self.loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _unread(self) -> float:
        """Seconds that the first bytes after a pause have waited."""
        paused_at, self._paused_at = self._paused_at, None
        longest = min(self._pause, time.perf_counter() - (paused_at or 0.0))
        unread = unread_seconds(self.transport)
        return longest if unread is None else min(longest, unread)
