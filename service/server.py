"""One process that serves: uvicorn's server, with connections that come from elsewhere, and a drain."""

from __future__ import annotations

import asyncio
import gc
import math
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from .app import Application
from .runtime.line_buffer import LINES
from .runtime.sources import Source
from .settings import Settings
from .web.connections import Connections
from .web.door import FULL
from .web.observability import log
from .web.protocol import Protocol as HttpProtocol

# Seconds in which connections that arrived with the order to stop can still send their request.
LAST_CONNECTIONS_SECONDS = 0.1
# Seconds between two updates of the header Date.
TICK_SECONDS = 1.0


class Server(uvicorn.Server):
    """Serves the connections of `source`.

    After SIGTERM it serves for another `drain_seconds`, with /readyz at 503. A replica has no signals, and stops when
    its supervisor says so.
    """

    def __init__(self, app: Application, settings: Settings, source: Source, *, has_signals: bool = True) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            proxy_headers=False,  # `service.web.peers` reads them, and nothing reads the scheme
            http=HttpProtocol,
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=math.ceil(settings.shutdown_seconds),
        )
        self._stopping = asyncio.Event()
        super().__init__(config)
        self._app = app
        self._seat = app.parts.health.seat
        self._source = source
        self._drain_seconds = settings.drain_seconds
        self._has_signals = has_signals
        self._opening: asyncio.Task[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._failing: asyncio.Task[None] | None = None
        self.failed = False
        """Whether the process ended because it could not go on."""
        self._adoptions: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connections = Connections(self._seat, settings.connections)
        self.server_state.connections = self._connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application. Connections are taken once it joins the others."""
        self._loop = asyncio.get_running_loop()
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        self._source.attach(self._ordered)
        self.servers = []
        self._opening = asyncio.create_task(self._open())
        self._settling = asyncio.create_task(self._settle())
        self._failing = asyncio.create_task(self._fail())
        self.started = True

    @property
    def should_exit(self) -> bool:
        """Whether the server stops. Set it on the event loop, or before there is one."""
        return self._stopping.is_set()

    @should_exit.setter
    def should_exit(self, stops: bool) -> None:
        if stops:
            self._stopping.set()

    async def main_loop(self) -> None:
        """Wait until the server stops, and update the header Date meanwhile."""
        # Uvicorn's own loop wakes the process ten times a second.
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), TICK_SECONDS)

    async def _open(self) -> None:
        await self._app.parts.health.joined.wait()
        self._source.open(self._adopt)

    async def _settle(self) -> None:
        await self._app.parts.health.warm.wait()
        # The compiled loops live as long as the process. The garbage collector took a tenth of the time of small
        # requests to visit them.
        gc.freeze()

    async def _fail(self) -> None:
        await self._app.parts.health.failed.wait()
        self.failed = self.should_exit = True

    def _adopt(self, connection: socket.socket, is_reserved: bool) -> None:
        task = asyncio.create_task(self._connect(connection, is_reserved))
        self._adoptions.add(task)
        task.add_done_callback(self._adoptions.discard)

    async def _connect(self, connection: socket.socket, is_reserved: bool) -> None:
        protocol = partial(self._protocol, is_reserved)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)
        except OSError:  # the client has gone
            connection.close()
            self._seat.close_connection()

    def _protocol(self, is_reserved: bool) -> asyncio.Protocol:
        is_reserved = is_reserved and not self._connections.make_room()
        return HttpProtocol(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            door=self._app.parts.door,
            full=FULL if is_reserved else b"",
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take the last connections, finish what runs, and stop the application."""
        for task in (self._opening, self._settling, self._failing):
            if task is not None:
                task.cancel()
        self._source.close()
        if self._adoptions and not self.force_exit:
            await asyncio.sleep(LAST_CONNECTIONS_SECONDS)
        await super().shutdown(sockets)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end."""
        try:
            super().run(sockets)
        finally:
            LINES.flush()

    def capture_signals(self) -> Any:
        """Uvicorn's handling of signals, where there are signals."""
        return super().capture_signals() if self._has_signals else _Nothing()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop or drain, as the signal says."""
        # A signal may interrupt code that holds the log's lock, so the handler only schedules the stop in the loop.
        # Uvicorn's own handler would raise the signal again at the end, but a requested stop must exit with 0.
        if self._loop is None:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._stop, sig)

    def _ordered(self, force: bool) -> None:
        """Stop, on the supervisor's order; with `force`, without waiting for running requests."""
        self.should_exit = True
        self.force_exit |= force

    def _stop(self, sig: int) -> None:
        board = self._seat.board
        if self.should_exit:
            self.force_exit = True
        elif board.draining or sig == signal.SIGINT:  # a second signal, or Ctrl-C, skips the drain
            self.should_exit = True
        else:
            log.info("draining", seconds=self._drain_seconds)
            asyncio.get_running_loop().call_later(self._drain_seconds, setattr, self, "should_exit", True)
        board.drain()


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
