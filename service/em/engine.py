"""The engine of registration: it admits jobs and selects their lanes."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple, cast, overload

from ..errors import DeadlineExceeded, InvalidInput, LatentserveError, WorkerFailed
from ..runtime.batching import Batcher
from ..runtime.gate import Gate
from ..runtime.limits import Limits
from .cancellation import Flag
from .outcome import Outcome
from .plan import Plan, plan
from .steps import CompleteLikelihood, Expected, Maximized
from .worker import (
    ChunkResult,
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

# Batches that one job of the small lane computes, one after the other. Other callers have their turn within it. Between
# two jobs the thread waits for the event loop, and then finds its caches cold.
CHUNK_BATCHES = 8


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

    async def solve_all(self, plans: Sequence[Plan], abandoned: Flag, timeout: float | None) -> ChunkResult:
        """Register all problems, each as if it were alone: its outcome or its error, in order.

        Problems that could share a batch are one job, of a few batches at most.

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
        """The plans in chunks for one lane, and the places of each chunk's plans."""
        alike: dict[tuple[bool, Hashable], list[int]] = {}
        for place, planned in enumerate(plans):
            small = planned.effort <= self.small_effort
            # The other engines compute problem by problem, and the key of each of their plans is unique.
            kind = planned.key if planned.engine == "batched" else planned.engine
            alike.setdefault((small, kind), []).append(place)
        chunks = []
        for (small, _), places in alike.items():
            first = plans[places[0]]
            batcher = self.small if small else self.large
            parts, most, key = _within(places, plans, batcher.limits), 1, None
            if first.engine == "batched":
                most, key = most_together(first, batcher.limits), first.key
                parts = _equally(places, most * CHUNK_BATCHES if small else most)
            for part in parts:
                some = [plans[place] for place in part]
                together = math.ceil(len(some) / math.ceil(len(some) / most))
                cost = sum(one.cost for one in some)
                chunks.append((batcher, RegisterChunk(some, key or object(), cost, abandoned, together, []), part))
        return chunks

    async def _solve(self, batcher: Batcher[Job, Result], chunk: RegisterChunk, timeout: float | None) -> ChunkResult:
        """The outcomes of one chunk: if it fails as a whole, of each of its problems alone.

        After the deadline, the problems that were computed before it have their outcomes.
        """
        begin = time.monotonic()
        try:
            found: Any = await batcher.submit(chunk, timeout)
        except WorkerFailed as error:
            if len(chunk.plans) == 1:
                return [error]
            left = None if timeout is None else max(0.0, timeout - (time.monotonic() - begin))
            single = [RegisterChunk([one], object(), one.cost, chunk.abandoned, 1, []) for one in chunk.plans]
            alone = await asyncio.gather(*(self._solve(batcher, one, left) for one in single))
            return [result for (result,) in alone]
        except LatentserveError as error:
            done = _unless_cancelled(chunk.done, error)
            return [*done, *[error] * (len(chunk.plans) - len(done))]
        # Another chunk may have reached the deadline a moment earlier, and stopped this one.
        return _unless_cancelled(found, DeadlineExceeded("no result before the request's deadline"))


def _unless_cancelled(found: ChunkResult, error: LatentserveError) -> ChunkResult:
    """The results, with the error in place of outcomes that were cancelled."""
    return [error if isinstance(one, Outcome) and one.stop_reason == "cancelled" else one for one in found]


def most_together(planned: Plan, limits: Limits) -> int:
    """How many plans like this one are computed together at most."""
    return max(1, min(limits.batch_items, int(limits.batch_cost // planned.cost)))


def _equally(places: list[int], most: int) -> Iterator[list[int]]:
    """The places in as few parts as possible, of at most `most` each and of about one size.

    A smaller rest would be a job of another size, which takes turns with the others.
    """
    parts = math.ceil(len(places) / most)
    bounds = [len(places) * part // parts for part in range(parts + 1)]
    return (places[begin:end] for begin, end in itertools.pairwise(bounds))


def _within(places: list[int], plans: Sequence[Plan], limits: Limits) -> Iterator[list[int]]:
    """The places in parts, none of more plans or cost than a batch may have. An expensive plan is alone."""
    part: list[int] = []
    cost = 0.0
    for place in places:
        more = plans[place].cost
        if part and (len(part) >= limits.batch_items or cost + more > limits.batch_cost):
            yield part
            part, cost = [], 0.0
        part.append(place)
        cost += more
    yield part
