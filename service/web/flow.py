"""Flow control of a connection: the service sends at the pace of its client, which has to take the answer."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl

from .transport import acked_bytes
from .watch import LEAST_BODY_BYTES


class Flow(FlowControl):
    """Uvicorn's flow control, which also closes the connection if the client takes too little of what was sent.

    The rest of the answer takes memory until then.

    Args:
        transport: of the connection.
        loop: the event loop.
        seconds: in which the client has to take the next `LEAST_BODY_BYTES`.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        super().__init__(transport)
        self._loop = loop
        self._seconds = seconds
        self._acked = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_finishing = False

    def pause_writing(self) -> None:
        """Note that the client has to take what was sent."""
        super().pause_writing()
        if self._timer is None:
            self._start()

    def resume_writing(self) -> None:
        """Note that the client has taken enough for now."""
        super().resume_writing()
        if not self._is_finishing:
            self.stop()

    def finish(self) -> None:
        """Note that the connection closes once the client has taken all that was sent."""
        self._is_finishing = True
        if self._timer is None:
            self._start()

    def stop(self) -> None:
        """Wait for the client no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self) -> None:
        self._acked = acked_bytes(self._transport)
        self._timer = self._loop.call_later(self._seconds, self._check)

    def _check(self) -> None:
        self._timer = None
        if not self._transport.get_write_buffer_size():
            return
        if acked_bytes(self._transport) - self._acked < LEAST_BODY_BYTES:
            self._transport.abort()
        else:
            self._start()
