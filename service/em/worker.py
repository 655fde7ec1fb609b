"""EM's computation for a batch of jobs: list[Job] -> list[Result]."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import steps
from .checks import check
from .outcome import Outcome
from .plan import Plan, plan
from .problem import NORMALIZES, TRANSFORMS, Problem
from .register import register_plans
from .steps import CompleteLikelihood, Expected, Maximized, Parameters


class RegisterJob(NamedTuple):
    """One planned registration; `abandoned` is set once no request waits for it."""

    plan: Plan
    abandoned: threading.Event


class ExpectJob(NamedTuple):
    """One E-step: source (N, D), target (M, D), and the parameters without their batch dimension."""

    source: Tensor
    target: Tensor
    psi: Parameters
    at: Parameters | None = None


class MaximizeJob(NamedTuple):
    """One M-step: source (N, D), target (M, D), responsibilities (N, M)."""

    source: Tensor
    target: Tensor
    responsibilities: Tensor


class LikelihoodJob(NamedTuple):
    """One complete-data log-likelihood: source (N, D), target (M, D), parameters, assignment (N, M)."""

    source: Tensor
    target: Tensor
    psi: Parameters
    assignment: Tensor


StepJob = ExpectJob | MaximizeJob | LikelihoodJob
Job = RegisterJob | StepJob
Result = Outcome | Expected | Maximized | CompleteLikelihood

STEPS: dict[type[StepJob], Callable[..., Expected | Maximized | CompleteLikelihood]] = {
    ExpectJob: steps.expectation,
    MaximizeJob: steps.maximization,
    LikelihoodJob: steps.complete_log_likelihood,
}


def cost(job: Job) -> float:
    """Pairs that one iteration, or the step, visits."""
    return job.plan.cost if isinstance(job, RegisterJob) else len(job.source) * len(job.target)


def effort(job: Job) -> float:
    """Upper bound of the job's whole computation, in pairs x D x iterations; it selects the lane."""
    return job.plan.effort if isinstance(job, RegisterJob) else cost(job) * job.source.shape[1]


def key(job: Job) -> Hashable:
    """Jobs with equal keys form a batch: registrations as planned, steps of one kind and shape."""
    if isinstance(job, RegisterJob):
        return job.plan.key
    return type(job).__name__, *(tuple(tensor.shape) for part in job[:4] for tensor in _tensors(part))


def _tensors(part: Tensor | Parameters | None) -> tuple[Tensor, ...]:
    if part is None:
        return ()
    return (part,) if isinstance(part, Tensor) else part


def cancel(job: Job) -> None:
    """Abandon the job: a registration stops at its next iteration. Steps are too short to be stopped."""
    if isinstance(job, RegisterJob):
        job.abandoned.set()


class EmWorker:
    """Registers, and computes single steps, on the processor."""

    @torch.inference_mode()
    def __call__(self, jobs: Sequence[Job]) -> Sequence[Result]:
        """One batch of jobs with equal keys."""
        plans = [job.plan for job in jobs if isinstance(job, RegisterJob)]
        if plans:
            return register_plans(plans)
        arguments = [_stack(column) for column in zip(*jobs, strict=True)]
        result = STEPS[type(jobs[0])](*arguments)  # type: ignore[index]  # the batch holds steps only
        return [type(result)(*(part[index] for part in result)) for index in range(len(jobs))]


def _stack(column: Sequence[Any]) -> Tensor | Parameters | None:
    if column[0] is None:
        return None
    if isinstance(column[0], Parameters):
        return Parameters(*(torch.stack(field) for field in zip(*column, strict=True)))
    return torch.stack(list(column))


def registration(problem: Problem) -> RegisterJob:
    """A job for `problem`, checked and planned, that stops at the next iteration once it is abandoned.

    Raises InvalidInput where `check` does.
    """
    abandoned = threading.Event()
    return RegisterJob(plan(check(problem._replace(cancelled=abandoned.is_set))), abandoned)


_POINT = torch.zeros(1, 1, dtype=torch.float64)
# The corners of an irregular tetrahedron and one inner point: enough to compile all code for poses.
_CORNERS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 4], [1, 1, 1]], dtype=torch.float64)
WARM_UP: list[RegisterJob] = [
    registration(Problem(_POINT, _POINT)),
    registration(Problem(_POINT, _POINT, sigma=1.0)),
    *(registration(Problem(_CORNERS, _CORNERS, transform=transform)) for transform in TRANSFORMS),
    *(registration(Problem(_CORNERS, _CORNERS, transform="rigid", normalize=way)) for way in NORMALIZES),
    registration(Problem(_CORNERS, _CORNERS, transform="similarity", init="identity")),
    registration(Problem(_CORNERS, _CORNERS, transform="rigid", init="identity")),
    registration(Problem(_CORNERS, _CORNERS, transform="rigid", matching="one_to_one", outlier_weight=0.1)),
    registration(Problem(_CORNERS, _CORNERS, transform="rigid", prior="free", sigma=0.1)),
]


def warm_up() -> None:
    """Run every kind of registration once, which compiles all numba code that they need."""
    worker = EmWorker()
    for job in WARM_UP:
        worker([job])
