"""Floors: what HTTP in Python costs without a computation, and with the bare computation.

- `constant`: a bare ASGI function that returns the same bytes to every request.
- `fastapi`: the same by FastAPI.
- `bare`: a bare ASGI function around the service's Batcher and generator, and PNGs written by hand. It checks nothing,
  so it is a lower bound of the cost of a real service that is built this way.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from typing import Any

import uvicorn
from fastapi import FastAPI, Response

from benchmarks.serving.peers.options import one_thread, options
from service.runtime.batching import Batcher, Limits

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

PICTURE = bytes(range(256)) + bytes(64)


async def _answer(send: Send, body: bytes) -> None:
    headers = [(b"content-type", b"image/png"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send, start: Callable[[], None]) -> None:
    await receive()
    start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def constant(scope: Scope, receive: Receive, send: Send) -> None:
    """The same bytes to every request."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send, lambda: None)
    else:
        await _answer(send, PICTURE)


def fastapi() -> FastAPI:
    """The same bytes by FastAPI, with the seed parsed."""
    app = FastAPI()

    @app.get("/generate")
    async def generate(seed: int) -> Response:
        return Response(PICTURE, media_type="image/png")

    return app


def bare() -> Application:
    """Batched pictures behind a bare function."""
    # Imported here, because the other floors need no torch.
    from benchmarks.serving.digits import Digits

    isal_zlib: Any = import_module("isal.isal_zlib")
    digits = Digits(lambda raw: isal_zlib.compress(raw, 1))  # several times as fast as zlib
    batcher: Batcher[int, bytes] = Batcher("gan", digits, limits=Limits(64, 64, 4096, 4096))

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send, batcher.start)
        else:
            await _answer(send, await batcher.submit(int(scope["query_string"].removeprefix(b"seed="))))

    return application


FLOORS: dict[str, Callable[[], Any]] = {"constant": lambda: constant, "fastapi": fastapi, "bare": bare}

if __name__ == "__main__":
    one_thread()
    name = sys.argv.pop(1)
    uvicorn.run(
        FLOORS[name](),
        host="127.0.0.1",
        port=options().port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
