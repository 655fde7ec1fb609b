"""Requests that are to be watched for a client that has gone."""

from __future__ import annotations

import asyncio

from service.web.presence import Presence

SECONDS = 0.02


def test_a_request_is_watched_once_if_it_runs_for_long_and_not_if_it_has_ended() -> None:
    async def run() -> None:
        watched: list[str] = []
        is_watched = asyncio.Event()

        def watch(name: str) -> None:
            watched.append(name)
            is_watched.set()

        presence = Presence(SECONDS, watch)
        for _ in range(2):  # the timer ends with the last request, and starts again
            presence.enter("ends")
            presence.enter("runs")
            presence.leave("ends")
            async with asyncio.timeout(60):
                await is_watched.wait()
            await asyncio.sleep(4 * SECONDS)
            assert watched == ["runs"]
            presence.leave("runs")
            watched.clear()
            is_watched.clear()

    asyncio.run(run())


def test_a_request_is_not_watched_before_its_time() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        waited: list[float] = []
        all_watched = asyncio.Event()

        def watch(began: float) -> None:
            waited.append(loop.time() - began)
            if len(waited) == 5:
                all_watched.set()

        presence: Presence[float] = Presence(SECONDS, watch)
        for _ in range(5):
            presence.enter(loop.time())
            await asyncio.sleep(0.7 * SECONDS)
        async with asyncio.timeout(60):
            await all_watched.wait()
        assert min(waited) >= 0.99 * SECONDS

    asyncio.run(run())
