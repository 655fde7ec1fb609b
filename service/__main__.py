"""`python -m service`: serve, check, openapi, compile."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import os
import signal
import socket
import sys
from types import FrameType

import uvicorn
from pydantic import ValidationError

from .app import Application, create_app
from .em import worker as em_worker
from .errors import LatentserveError
from .formats.json_numbers import reading as json_numbers
from .gan import drawing
from .settings import Settings, nearest_variable, service_links, variable
from .web.observability import configure_logging, log
from .web.protocol import Protocol


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, or 2 with one line on stderr for each mistake."""
    parser = argparse.ArgumentParser(prog=f"python -m {__package__}", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve until SIGTERM; settings come from LATENTSERVE_* and these flags")
    serve.add_argument("--host")
    serve.add_argument("--port", type=int)
    commands.add_parser("check", help="check settings and checkpoint, and report whether the service would start")
    commands.add_parser("openapi", help="print the OpenAPI document")
    commands.add_parser(
        "compile", help="compile the loops of registration and digits into NUMBA_CACHE_DIR, for a faster start"
    )
    options = parser.parse_args(arguments)
    if options.command == "compile":
        drawing.warm_up()
        json_numbers.warm_up()
        em_worker.warm_up()
        return 0

    given = {name: value for name, value in vars(options).items() if name in {"host", "port"} and value is not None}
    try:
        settings = Settings(**given)
        configure_logging(settings)
        if links := service_links(os.environ):
            log.info("ignored Kubernetes' service links", variables=links)
        app = create_app(settings)
    except LatentserveError as error:
        print(f"latentserve does not start: {error.detail}", file=sys.stderr)
        return 2
    except ValidationError as error:
        for mistake in error.errors():
            name = variable("_".join(map(str, mistake["loc"])))
            if mistake["type"] == "extra_forbidden":
                near = nearest_variable(name)
                reason = "unknown setting" + (f"; the nearest known one is {near}" if near else "")
            else:
                reason = f"{mistake['msg']} (given: {mistake['input']!r})"
            print(f"latentserve does not start: {name}: {reason}", file=sys.stderr)
        return 2

    if options.command == "openapi":
        print(json.dumps(app.openapi(), indent=2))
    elif options.command == "check":
        print("ok")
    else:
        _serve(app, settings)
    return 0


class _Server(uvicorn.Server):
    """Uvicorn's server with a drain: after SIGTERM it serves for another `drain_seconds`, with /readyz at 503."""

    def __init__(self, config: uvicorn.Config, app: Application, drain_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # A signal may interrupt code that holds the log's lock, so the handler only schedules the stop in the loop.
        # Uvicorn's own handler would raise the signal again at the end, but a requested stop must exit with 0.
        if self._loop is None:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._stop, sig)

    def _stop(self, sig: int) -> None:
        health = self._app.parts.health
        if self.should_exit:
            self.force_exit = True
        elif health.draining or sig == signal.SIGINT:  # a second signal, or Ctrl-C, skips the drain
            self.should_exit = True
        else:
            log.info("draining", seconds=self._drain_seconds)
            asyncio.get_running_loop().call_later(self._drain_seconds, setattr, self, "should_exit", True)
        health.draining = True


def _serve(app: Application, settings: Settings) -> None:
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing reads the client's address or the scheme
        http=Protocol,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.shutdown_seconds),
    )
    # Imported objects live as long as the process, so the garbage collector need not visit them.
    gc.collect()
    gc.freeze()
    _Server(config, app, settings.drain_seconds).run()


if __name__ == "__main__":
    sys.exit(main())
