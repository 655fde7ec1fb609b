"""Plain FastAPI under uvicorn: one forward pass a request, or batches that form while one is computed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Response

from benchmarks.serving.digits import Digits
from benchmarks.serving.peers.options import one_thread, options


class Batches:
    """The usual hand-made batching: a queue, a task that takes what is there, and one thread that computes."""

    def __init__(self, digits: Digits, size: int, wait: float) -> None:
        self._digits, self._size, self._wait = digits, size, wait
        self._queue: asyncio.Queue[tuple[int, asyncio.Future[bytes]]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1)

    async def draw(self, seed: int) -> bytes:
        """The picture of one seed."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((seed, future))
        return await future

    async def serve(self) -> None:
        """Compute batches until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._queue.get()]
            if self._wait:
                await asyncio.sleep(self._wait)
            while len(batch) < self._size and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            pictures = await loop.run_in_executor(self._thread, self._digits, [seed for seed, _ in batch])
            for (_, future), picture in zip(batch, pictures, strict=True):
                if not future.done():
                    future.set_result(picture)


def create() -> FastAPI:
    """The application of one worker process."""
    chosen = options()
    digits = Digits(by_torch=bool(chosen.by_torch))
    batches = Batches(digits, chosen.batch, chosen.wait / 1000)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        serving = asyncio.create_task(batches.serve())
        yield
        serving.cancel()

    app = FastAPI(lifespan=lifespan)

    if chosen.batch == 1:

        @app.get("/generate")
        async def generate(seed: int) -> Response:
            # On the event loop: handing over to a thread costs more than it gains with one core a process.
            return Response(digits([seed])[0], media_type="image/png")
    else:

        @app.get("/generate")
        async def generate_batched(seed: int) -> Response:
            return Response(await batches.draw(seed), media_type="image/png")

    return app


if __name__ == "__main__":
    one_thread()
    chosen = options()
    uvicorn.run(
        f"{__spec__.name}:create",
        factory=True,
        host="127.0.0.1",
        port=chosen.port,
        workers=chosen.workers,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
