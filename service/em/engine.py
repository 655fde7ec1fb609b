"""The engine of registration: it admits jobs and selects their lanes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, cast, overload

from ..errors import DeadlineExceeded, InvalidInput, LatentserveError, WorkerFailed
from ..runtime.batching import Batcher
from ..runtime.gate import Gate
from .cancellation import Flag
from .outcome import Outcome
from .plan import Plan, plan
from .steps import CompleteLikelihood, Expected, Maximized
from .worker import (
    ExpectJob,
    Job,
    LikelihoodJob,
    MaximizeJob,
    RegisterChunk,
    RegisterJob,
    Result,
    StepJob,
    effort,
)


class EmEngine(NamedTuple):
    """Two lanes, each with its own thread, so that small problems do not wait for large ones.

    `small_effort` is the maximum effort of a job in the small lane, and `max_effort` that of an accepted registration.
    Both are in the units of `Plan.effort`: pairs × D × iterations. Registrations wait at the gate `registrations` until
    their loops are compiled.
    """

    small: Batcher[Job, Result]
    large: Batcher[Job, Result]
    small_effort: float
    max_effort: float
    registrations: Gate

    @overload
    async def submit(self, job: ExpectJob, timeout: float | None) -> Expected: ...
    @overload
    async def submit(self, job: MaximizeJob, timeout: float | None) -> Maximized: ...
    @overload
    async def submit(self, job: LikelihoodJob, timeout: float | None) -> CompleteLikelihood: ...
    async def submit(self, job: StepJob, timeout: float | None) -> Result:
        """The result of a step; `timeout` is in seconds, None for no limit.

        Raises what `Batcher.submit` raises.
        """
        return await self._lane(effort(job)).submit(job, timeout)

    async def solve(self, job: RegisterJob, timeout: float | None) -> Outcome:
        """Register one problem; `timeout` is in seconds, None for no limit.

        Raises InvalidInput for an effort above `max_effort`, and whatever `Gate.passed` and `Batcher.submit` raise.
        """
        self.check_effort(job.plan)
        timeout = await self.registrations.passed(timeout)
        outcome = await self._lane(job.plan.effort).submit(job, timeout)
        return cast(Outcome, outcome)

    def _lane(self, effort: float) -> Batcher[Job, Result]:
        return self.small if effort <= self.small_effort else self.large

    def check_effort(self, planned: Plan) -> None:
        """Raise InvalidInput for a registration of more effort than `max_effort`."""
        if planned.effort <= self.max_effort:
            return
        problem = planned.problem
        least = plan(problem._replace(max_iterations=1)).effort
        raise InvalidInput(
            f"{len(problem.source)} x {len(problem.target)} points in {problem.max_iterations} iterations need "
            f"about {planned.effort:.2g} pairs x D x iterations; this server allows {self.max_effort:.2g}",
            pointer="/source" if least > self.max_effort else "/max_iterations",
            allowed="fewer points" if least > self.max_effort else "fewer points, or fewer iterations",
        )

    async def solve_all(
        self, plans: Sequence[Plan], abandoned: Flag, timeout: float | None
    ) -> list[Outcome | LatentserveError]:
        """Register all problems, each as if it were alone: its outcome or its error, in order.

        Problems that could share a batch are one job, so that each batch takes one place in the queue.

        Args:
            plans: `check_effort` has accepted them.
            abandoned: what their `Problem.cancelled` reads; it is set once their results are no longer needed.
            timeout: in seconds, None for no limit.

        Raises:
            Overloaded, ShuttingDown: see `Gate.passed`.
        """
        if not plans:
            return []
        timeout = await self.registrations.passed(timeout)
        chunks = self._chunks(plans, abandoned)
        solved = await asyncio.gather(*(self._solve(batcher, chunk, timeout) for batcher, chunk, _ in chunks))
        results: dict[int, Outcome | LatentserveError] = {}
        for (_, _, places), found in zip(chunks, solved, strict=True):
            results.update(zip(places, found, strict=True))
        return [results[place] for place in range(len(plans))]

    def _chunks(
        self, plans: Sequence[Plan], abandoned: Flag
    ) -> list[tuple[Batcher[Job, Result], RegisterChunk, list[int]]]:
        """The plans in chunks for one lane, none larger than a batch, and the places of each chunk's plans."""
        filled: list[_Filling] = []
        filling: dict[Hashable, _Filling] = {}
        for place, planned in enumerate(plans):
            small = planned.effort <= self.small_effort
            # The other engines compute problem by problem, and the key of each of their plans is unique.
            key = small, planned.key if planned.engine == "batched" else planned.engine
            chunk = filling.get(key)
            if chunk is None or not chunk.has_room(planned.cost):
                chunk = filling[key] = _Filling(self._lane(planned.effort))
                filled.append(chunk)
            chunk.plans.append(planned)
            chunk.places.append(place)
            chunk.cost += planned.cost
        return [(chunk.batcher, chunk.job(abandoned), chunk.places) for chunk in filled]

    async def _solve(
        self, batcher: Batcher[Job, Result], chunk: RegisterChunk, timeout: float | None
    ) -> list[Outcome | LatentserveError]:
        """The outcomes of one chunk. If it fails as a whole, each of its problems is computed alone."""
        begin = time.monotonic()
        try:
            found: Any = await batcher.submit(chunk, timeout)
        except WorkerFailed as error:
            if len(chunk.plans) == 1:
                return [error]
            left = None if timeout is None else max(0.0, timeout - (time.monotonic() - begin))
            single = [RegisterChunk([planned], object(), planned.cost, chunk.abandoned) for planned in chunk.plans]
            alone = await asyncio.gather(*(self._solve(batcher, one, left) for one in single))
            return [result for (result,) in alone]
        except LatentserveError as error:
            return [error] * len(chunk.plans)
        # Another chunk may have reached the deadline a moment earlier, and stopped this one.
        late = DeadlineExceeded("no result before the request's deadline")
        return [late if isinstance(one, Outcome) and one.stop_reason == "cancelled" else one for one in found]


class _Filling:
    """A chunk while plans are added to it."""

    __slots__ = ("batcher", "cost", "most", "places", "plans")

    def __init__(self, batcher: Batcher[Job, Result]) -> None:
        self.batcher = batcher
        self.most = batcher.limits
        self.plans: list[Plan] = []
        self.places: list[int] = []
        self.cost = 0.0

    def has_room(self, cost: float) -> bool:
        """Whether a batch could hold a plan of this cost as well."""
        return self.cost + cost <= self.most.batch_cost and len(self.plans) < self.most.batch_items

    def job(self, abandoned: Flag) -> RegisterChunk:
        """The chunk as a job."""
        first = self.plans[0]
        key = first.key if first.engine == "batched" else object()
        return RegisterChunk(self.plans, key, self.cost, abandoned)
