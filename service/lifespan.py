"""The life of the application: it starts its workers, warms them up, reports its state, and closes them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from fastapi import FastAPI

from .em import worker as em_worker
from .errors import DeviceLost
from .formats.json_numbers import reading as json_numbers
from .gan import jobs as gan_jobs
from .runtime.background import Background
from .runtime.gate import Gate
from .vae import worker as vae_worker
from .web.health import Health
from .web.observability import log

# Seconds to wait for the workers at the end. The server has already waited for running requests.
CLOSE_SECONDS = 1.0
# Seconds between the reports of a process to the others.
BEAT_SECONDS = 0.5
# Seconds between two attempts to warm up while the process of the GPU is away.
DEVICE_SECONDS = 0.5
# Seconds after which a thread that computes in Python lets another go on. By default it is 5 ms, which the event loop
# waits for each time that it has something to do.
SWITCH_SECONDS = 0.001


def lifespan(health: Health, registrations: Gate, compiling: Background | None) -> Callable[[FastAPI], Any]:
    """The lifespan of an application.

    Args:
        health: the state behind the probes.
        registrations: opened once registration is ready.
        compiling: the process that compiles the loops of registration; None if this one loads or compiles them itself.
    """
    batchers = health.batchers.values()

    @asynccontextmanager
    async def run(app: FastAPI) -> AsyncIterator[None]:
        sys.setswitchinterval(SWITCH_SECONDS)
        for batcher in batchers:
            batcher.start()
        warming = asyncio.create_task(_warm_up(health, registrations, compiling))
        warming.add_done_callback(partial(_report, health))
        beating = asyncio.create_task(_beat(health))
        try:
            yield
        finally:
            warming.cancel()
            beating.cancel()
            registrations.close()
            await asyncio.gather(*(batcher.close(CLOSE_SECONDS) for batcher in batchers))

    return run


def _report(health: Health, warming: asyncio.Task[None]) -> None:
    if not warming.cancelled() and warming.exception() is not None:
        health.warm_up_failed = True
        log.critical("warm-up failed", exc_info=warming.exception())


async def _beat(health: Health) -> None:
    with suppress(asyncio.CancelledError):
        while True:
            stuck = health.stuck()
            health.seat.beat(stuck=bool(stuck))
            if stuck and health.seat.board.replicas == 1 and not health.failed.is_set():
                log.critical("the process is stuck and ends", what=stuck)
                health.failed.set()
            await asyncio.sleep(BEAT_SECONDS)


async def _warm_up(health: Health, registrations: Gate, compiling: Background | None) -> None:
    """Run each engine once on typical jobs, so that no request waits for compilation or kernel selection."""
    await _run(health, "vae", vae_worker.WARM_UP)
    draws = await _can_draw(health)
    if compiling is not None:
        health.join()
        if not await compiling.ended():
            log.warning("the compilation failed; each process now compiles what it needs, one loop after another")
    await asyncio.to_thread(json_numbers.warm_up)
    await _run(health, "em", em_worker.warm_up_jobs())
    registrations.open()
    health.join()
    while not draws:
        await asyncio.sleep(DEVICE_SECONDS)
        draws = await _can_draw(health)
    health.warm.set()
    seat = health.seat
    # Of several processes, the supervisor says when all are ready.
    if seat.board.replicas == 1:
        log.info("ready")
    else:
        log.debug("replica is ready", replica=seat.replica)


async def _can_draw(health: Health) -> bool:
    """Warm up the engine of digits, unless its device is away. Meanwhile requests for digits say so."""
    try:
        await _run(health, "gan", gan_jobs.WARM_UP)
    except DeviceLost:
        return False
    return True


async def _run(health: Health, engine: str, jobs: Sequence[Any]) -> None:
    for job in jobs:
        await health.batchers[engine].submit(job)
    health.seat.set_ready(engine)
