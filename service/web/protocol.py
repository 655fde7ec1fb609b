"""A connection with a door: requests are admitted before their body is read, or refused."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from ..runtime.caller import SCOPE_CALLER
from .connection import Connection
from .cycle import Cycle
from .door import READ_PACE_SECONDS, SAFE_ID, Door
from .failures import REFUSED
from .media import HEADERS
from .routing import STARTED
from .transport import has_unread, has_unsent, unread_seconds
from .watch import Patience

# A larger body of a refused request is not read: its connection is closed.
MAX_DISCARDED_BYTES = 256 * 1024
# Seconds for the next request on a connection beyond the limit.
FULL_SECONDS = 2.0
# Seconds that a connection is left alone at the limit. Clients send their first request at once, but a head may come in
# several packets.
UNUSED_SECONDS = 0.01
HEAD_SECONDS = 0.1
PAUSE_SECONDS = 0.25
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
        self._paused_at: float | None = None
        self._pause = 0.0
        self._was_unread = False

    # -- the limit of connections -------------------------------------------------------------------------------

    @property
    def is_reserved(self) -> bool:
        """Whether this is a connection beyond the limit."""
        return bool(self._full)

    def may_close_at(self) -> float:
        """The time of the loop from which another connection may take the place of this one.

        It is infinite unless the client owes a request, or the rest of its head.
        """
        cycle = self.cycle
        is_waiting = (
            (cycle is None or cycle.response_complete)
            and (self._in_head or not self._in_message)
            and not (self.flow.read_paused or self.is_closing())
            and not self.transport.get_write_buffer_size()
        )
        if not is_waiting:
            return math.inf
        unused = HEAD_SECONDS if self._in_head else UNUSED_SECONDS
        return self._watch.since + (unused if cycle is None else PAUSE_SECONDS)

    def evict(self) -> bool:
        """Close the connection for another one.

        Returns False, and does not, if bytes of the client are not yet read, or it has not taken its last answer.
        """
        if has_unread(self.transport) or has_unsent(self.transport):
            return False
        self._is_ending = self._is_closing = True
        self.transport.close()
        return True

    # -- admission ----------------------------------------------------------------------------------------------

    def take(self) -> None:
        """Start the request, refuse it, or queue it behind the one before."""
        unread = 0.0 if self._paused_at is None else self._unread()
        self._was_unread = unread > 0
        scope = self.new_scope()
        scope[STARTED] = self._began - unread
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            excess = self._excess(scope, self.url)
            if excess:
                # What has waited unread has little time left. If the client tries again, it shall have all of it.
                self._refuse(excess, may_pause=not unread)
                return
        self.start_or_queue(scope)

    def _excess(self, scope: dict[str, Any], url: bytes) -> float:
        """The predicted seconds of a request that is to be refused; 0 if it is to be admitted."""
        door = self._door
        if self._full:
            return 0.0 if door.is_probe(url) else 1.0
        timeout = scope[HEADERS].get(_TIMEOUT)
        if timeout is None:
            return door.excess(url, scope, None)
        try:
            seconds = float(timeout)
        except ValueError:
            seconds = 0.0
        if not seconds > 0:  # the route refuses it
            return 0.0
        return door.excess(url, scope, seconds - (time.perf_counter() - scope[STARTED]))

    def start(self, cycle: Cycle) -> None:
        """Run the application on a request that is admitted."""
        scope: Any = cycle.scope
        # Noted for the layers above, because to name it takes a look at the headers.
        cycle.caller = scope[SCOPE_CALLER] = self._door.caller(scope)
        cycle.number = self._door.admission.enter(cycle.caller)
        super().start(cycle)

    def ended(self, cycle: Cycle) -> None:
        """Note that the application has ended on a request."""
        super().ended(cycle)
        self._door.admission.leave(cycle.number, cycle.caller)

    def on_response_complete(self) -> None:
        """Refuse the queued requests that have become late, and go on with the next."""
        ended: Any = None if self._running is None else self._running.scope
        while self.pipeline and not self.is_closing():
            cycle, _ = self.pipeline[-1]
            scope: Any = cycle.scope
            excess = self._excess(scope, scope["raw_path"])
            if not excess:
                break
            self.pipeline.pop()
            cycle.response_complete = True
            close = not cycle.keep_alive or cycle.waiting_for_100_continue or cycle.more_body
            self._write_refusal(scope["method"].encode(), scope[HEADERS], excess, close)
            if close:
                self.pipeline.clear()
        is_last = not self.pipeline
        super().on_response_complete()
        if ended is None:
            return
        predicted = ended["state"].get(REFUSED)
        self._door.ended(ended, predicted)
        if predicted is not None and is_last and not self._was_unread and not self.is_closing():
            self._pause_reading(self._door.next_turn(READ_PACE_SECONDS))

    def rejected(self, status: int) -> None:
        """Count a request that was rejected before the application has seen it."""
        self._door.rejected(status)

    # -- refusals -----------------------------------------------------------------------------------------------

    def _refuse(self, excess: float, may_pause: bool) -> None:
        """Answer the request whose head has just been read, and discard its body."""
        fields = self._fields
        # Without its length the body may be of any size. A client that waits for 100 may send it or not.
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
