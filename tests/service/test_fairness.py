"""Small requests end while large ones of others, and of the same caller, are in progress. Counts, not seconds."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.app import Parts, create_app
from service.em.problem import Problem
from service.em.worker import registration
from service.gan.jobs import GenerateJob
from service.runtime.caller import CALLER
from service.settings import Settings

Request = Callable[[Parts], Coroutine[Any, Any, Any]]


def rigid(points: int = 120, **options: Any) -> Request:
    """A search for the pose of unrelated clouds, which takes a fraction of a second."""
    rng = np.random.default_rng(points)
    source, target = rng.normal(size=(2, points, 2))
    problem = Problem(source, target, transform="rigid", tolerance=0.0)
    return lambda parts: parts.em.solve(registration(problem._replace(**options)), None)


def translation(parts: Parts) -> Coroutine[Any, Any, Any]:
    corner = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    return parts.em.solve(registration(Problem(corner, corner + 1)), None)


def digits(count: int, **options: Any) -> Request:
    return lambda parts: parts.gan.submit(GenerateJob(count, **options), None)


def send(parts: Parts, caller: str, request: Request) -> asyncio.Task[Any]:
    context = contextvars.copy_context()
    context.run(CALLER.set, caller)
    return asyncio.create_task(request(parts), context=context)


@pytest.mark.parametrize("caller", ["the same", "another"])
@pytest.mark.parametrize(
    ("large", "small"),
    [
        (rigid(), translation),
        (rigid(), rigid(4, max_iterations=5)),
        (digits(1024, score=True), digits(1)),
        (digits(1024, score=True), digits(1, score=True)),
    ],
    ids=["a translation", "a small search", "a digit", "a scored digit"],
)
def test_a_small_request_ends_before_the_second_of_many_large_ones(
    checkpoints: Path, large: Request, small: Request, caller: str
) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu"))

    async def story() -> None:
        parts, batchers = app.parts, app.parts.health.batchers.values()
        for batcher in batchers:
            batcher.start()
        parts.em.registrations.open()
        await small(parts)  # compiles what it needs
        await send(parts, "the same", large)
        in_progress = [send(parts, "the same", large) for _ in range(6)]
        await asyncio.sleep(0.01)
        await send(parts, caller, small)
        assert sum(task.done() for task in in_progress) <= 1
        for task in in_progress:
            task.cancel()
        await asyncio.gather(*in_progress, return_exceptions=True)
        await asyncio.gather(*(batcher.close(60) for batcher in batchers))

    asyncio.run(asyncio.wait_for(story(), 300))
