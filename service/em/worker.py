"""The worker of registration: list[Job] -> list[Result]."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import LatentserveError
from ..runtime.turns import give_way
from . import steps
from .cancellation import Flag
from .checks import check
from .choices import NORMALIZES
from .kernel.single_precision import FEW_TARGETS
from .kinds import KINDS
from .outcome import Outcome
from .plan import Plan, plan
from .problem import Problem
from .register import register_plans
from .slices import sliced
from .steps import CompleteLikelihood, Expected, Maximized, Psi

Float64 = NDArray[np.float64]


class RegisterJob(NamedTuple):
    """One planned registration; `abandoned` is set once no request waits for it."""

    plan: Plan
    abandoned: Flag


class RegisterChunk(NamedTuple):
    """Several planned registrations of one request; `abandoned` is set once the request no longer waits.

    Those of the batched engine have one key. The others are computed one by one, and an invalid one has its error as
    its result.
    """

    plans: Sequence[Plan]
    key: Hashable
    cost: float  # of all plans
    abandoned: Flag
    together: int  # plans that are computed in one batch
    done: ChunkResult  # the results so far; each batch adds its own


class ExpectJob(NamedTuple):
    """One E-step: source (N, D), target (M, D), and parameters without a batch dimension: T (D,), Π (N, M), σ ()."""

    source: Float64
    target: Float64
    psi: Psi
    at: Psi | None = None


class MaximizeJob(NamedTuple):
    """One M-step: source (N, D), target (M, D), responsibilities (N, M)."""

    source: Float64
    target: Float64
    responsibilities: Float64


class LikelihoodJob(NamedTuple):
    """One complete-data log-likelihood: source (N, D), target (M, D), parameters, assignment (N, M)."""

    source: Float64
    target: Float64
    psi: Psi
    assignment: Float64


# Pairs x D in a second, a tenth of what one idle processor computes.
LEAST_SPEED = 1e7
StepJob = ExpectJob | MaximizeJob | LikelihoodJob
Job = RegisterJob | RegisterChunk | StepJob
ChunkResult = list[Outcome | LatentserveError]
Result = Outcome | ChunkResult | Expected | Maximized | CompleteLikelihood

STEPS: dict[type[StepJob], Callable[..., Expected | Maximized | CompleteLikelihood]] = {
    ExpectJob: steps.expectation,
    MaximizeJob: steps.maximization,
    LikelihoodJob: steps.complete_log_likelihood,
}


# A step makes an N x M array for each of several terms, which takes longer than a pair of an iteration.
STEP_EFFORT = 8


def cost(job: Job) -> float:
    """Pairs that one iteration, or the step, visits."""
    if isinstance(job, RegisterChunk):
        return job.cost
    return job.plan.cost if isinstance(job, RegisterJob) else len(job.source) * len(job.target)


def effort(job: Job) -> float:
    """Upper bound of the computation of all its problems, in the unit of `Plan.effort`."""
    if isinstance(job, RegisterChunk):
        return sum(plan.effort for plan in job.plans)
    if isinstance(job, RegisterJob):
        return job.plan.effort
    return cost(job) * (STEP_EFFORT + int(job.source.shape[1]))


def pass_seconds(job: Job) -> float:
    """Seconds that the job may compute between two polls: one pass over all pairs, on a slow processor."""
    if isinstance(job, (RegisterJob, RegisterChunk)):
        plans = (job.plan,) if isinstance(job, RegisterJob) else job.plans
        numbers = max(len(one.problem.target) * one.problem.source.size for one in plans)
    else:
        numbers = len(job.target) * job.source.size
    return numbers / LEAST_SPEED


def key(job: Job) -> Hashable:
    """Jobs with equal keys form a batch: registrations as planned, steps of one kind and shape."""
    if isinstance(job, RegisterChunk):
        return job.key
    if isinstance(job, RegisterJob):
        return job.plan.key
    return type(job).__name__, *(array.shape for part in job[:4] for array in _arrays(part))


def _arrays(part: Float64 | Psi | None) -> tuple[Float64, ...]:
    if part is None:
        return ()
    return part if isinstance(part, Psi) else (part,)


def cancel(job: Job) -> None:
    """Abandon the job: a registration stops at its next poll. Steps only give way: they are too short to be stopped."""
    if isinstance(job, (RegisterJob, RegisterChunk)):
        job.abandoned.set()


class EmWorker:
    """Registers problems and computes single steps, on the processor."""

    def __call__(self, jobs: Sequence[Job]) -> Sequence[Result]:
        """Compute one batch of jobs with equal keys. Raises InvalidInput where `register_plans` does."""
        registrations = [job for job in jobs if isinstance(job, (RegisterJob, RegisterChunk))]
        if registrations:
            return _register(registrations)
        arguments = [_stack(column) for column in zip(*jobs, strict=True)]
        with sliced(give_way):
            result = STEPS[type(jobs[0])](*arguments)  # type: ignore[index]  # the batch holds steps only
        return [type(result)(*(part[index] for part in result)) for index in range(len(jobs))]


def _register(jobs: Sequence[RegisterJob | RegisterChunk]) -> list[Result]:
    if len(jobs) == 1 and isinstance(jobs[0], RegisterChunk):
        return [_chunk(jobs[0])]
    plans = [plan for job in jobs for plan in ((job.plan,) if isinstance(job, RegisterJob) else job.plans)]
    found = iter(register_plans(plans))
    results: list[Any] = [
        next(found) if isinstance(job, RegisterJob) else list(islice(found, len(job.plans))) for job in jobs
    ]
    return results


def _chunk(job: RegisterChunk) -> ChunkResult:
    """The results of a chunk that shares its batch with no other job."""
    for first in range(0, len(job.plans), job.together):
        plans = job.plans[first : first + job.together]
        try:
            job.done.extend(register_plans(plans))
        except LatentserveError as error:
            if len(plans) > 1:
                raise
            job.done.append(error)
    return job.done


def _stack(column: Sequence[Any]) -> Float64 | Psi | None:
    if column[0] is None:
        return None
    if isinstance(column[0], Psi):
        return Psi(*(np.stack(field) for field in zip(*column, strict=True)))
    return np.stack(list(column))


def registration(problem: Problem) -> RegisterJob:
    """A job for `problem`, checked and planned, that stops at the next iteration once it is abandoned.

    Raises InvalidInput where `check` does.
    """
    abandoned = Flag()
    return RegisterJob(plan(check(problem.until(abandoned.poll))), abandoned)


def _corners(dimension: int) -> Float64:
    """The corners of an irregular simplex and one inner point (D + 2, D): enough to compile all code for poses."""
    return np.vstack([np.zeros(dimension), np.diag(2.0 ** np.arange(dimension)), np.ones(dimension)])


def _surface(side: int) -> Float64:
    """A wavy surface (side², 3)."""
    x, y = np.divmod(np.arange(float(side * side)), side)
    return np.stack([x, y, 3 * np.sin(10 * x / side) * np.cos(8 * y / side)], 1)


def warm_up_jobs(*, interpreted: bool = False) -> list[RegisterJob]:
    """One small registration of every kind, which together compile all loops that registrations need.

    Where the loops are `interpreted`, the surface that has features is left out: it would take minutes.

    Raises InvalidInput where `check` does.
    """
    point, corners = np.zeros((1, 1)), _corners(3)
    every_kind = [
        Problem(cloud, cloud, transform=name)
        for name, kind in KINDS.items()
        for cloud in [_corners(3 if kind.dimensions is None else max(kind.dimensions))]
    ]
    turned = Problem(corners, corners, transform="rigid")
    # So many targets are searched through cells, and no pose of two points stands out.
    many = np.stack([np.arange(FEW_TARGETS + 1.0), np.zeros(FEW_TARGETS + 1)], 1)
    # Few of these points have a partner, so that all their triangles are compared.
    few, others = np.arange(7.0), np.array([[9.0, 1, 3], [1, 8, 2], [4, 4, 9]])
    few = np.stack([few, few**2 % 5, few**3 % 7], 1)
    surface, whole = (_surface(side) for side in (10, 40))
    problems = [
        Problem(point, point),
        Problem(point, point, sigma=1.0),
        *every_kind,
        *(turned._replace(normalize=way) for way in NORMALIZES),
        Problem(corners, corners, transform="similarity", init="identity"),
        turned._replace(init="identity"),
        turned._replace(matching="one_to_one", outlier_weight=0.1),
        turned._replace(prior="free", sigma=0.1),
        turned._replace(noise="surface", sampling=0.01),
        Problem(surface[::2], surface[1::2], transform="rigid", noise="surface"),
        *([] if interpreted else [Problem(whole[::2], whole[1::2], transform="rigid", noise="surface")]),
        Problem(many[:2], many, transform="rigid"),
        Problem(few, np.concatenate([few[:4], others]), transform="rigid"),
    ]
    return [registration(problem) for problem in problems]
