"""The engine of registration: it admits jobs and selects their lanes."""

from __future__ import annotations

from typing import NamedTuple, overload

from ..errors import InvalidInput
from ..runtime.batching import Batcher
from .outcome import Outcome
from .plan import plan
from .problem import Problem
from .steps import CompleteLikelihood, Expected, Maximized
from .worker import ExpectJob, Job, LikelihoodJob, MaximizeJob, RegisterJob, Result, effort, registration


class EmEngine(NamedTuple):
    """Two lanes, each with its own thread, so that small problems do not wait for large ones.

    `small_effort` is the maximum effort of a job in the small lane, and `max_effort` that of an accepted registration.
    Both are in the units of `Plan.effort`: pairs × D × iterations.
    """

    small: Batcher[Job, Result]
    large: Batcher[Job, Result]
    small_effort: float
    max_effort: float

    @overload
    async def submit(self, job: RegisterJob, timeout: float | None) -> Outcome: ...
    @overload
    async def submit(self, job: ExpectJob, timeout: float | None) -> Expected: ...
    @overload
    async def submit(self, job: MaximizeJob, timeout: float | None) -> Maximized: ...
    @overload
    async def submit(self, job: LikelihoodJob, timeout: float | None) -> CompleteLikelihood: ...
    async def submit(self, job: Job, timeout: float | None) -> Result:
        """The job's result; `timeout` is in seconds, None for no limit. Raises what `Batcher.submit` raises."""
        batcher = self.small if effort(job) <= self.small_effort else self.large
        return await batcher.submit(job, timeout)

    async def solve(self, problem: Problem, timeout: float | None) -> Outcome:
        """Register one problem; `timeout` is in seconds, None for no limit.

        Raises InvalidInput where `check` does and for an effort above `max_effort`, and whatever `Batcher.submit`
        raises.
        """
        job = registration(problem)
        if job.plan.effort > self.max_effort:
            least = plan(job.plan.problem._replace(max_iterations=1)).effort
            raise InvalidInput(
                f"{len(problem.source)} x {len(problem.target)} points in {problem.max_iterations} iterations need "
                f"about {job.plan.effort:.2g} pairs x D x iterations; this server allows {self.max_effort:.2g}",
                pointer="/source" if least > self.max_effort else "/max_iterations",
                allowed="fewer points" if least > self.max_effort else "fewer points, or fewer iterations",
            )
        return await self.submit(job, timeout)
