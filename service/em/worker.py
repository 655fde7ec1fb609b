"""EM's computation for a batch of jobs: list[Job] -> list[Result]."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import steps
from .batched.padding import bucket, group_key
from .problem import NORMALIZES, TRANSFORMS, Outcome, Problem
from .register import is_dense, register_batch
from .steps import CompleteLikelihood, Expected, Maximized, Parameters


class RegisterJob(NamedTuple):
    """One registration; `abandoned` is set when nobody waits for it any longer."""

    problem: Problem
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


# What an iteration costs besides its pairs, as so many pairs.
ITERATION_OVERHEAD = 50_000


# Of a cloud in cells, so many targets are looked at for each source point, and a start costs so many iterations.
NEIGHBOURS = 512
START_ITERATIONS = 50
# Widths of the box, in σ, that a kernel reaches.
REACH = 10.0


def cost(job: Job) -> float:
    """Pairs that one iteration touches."""
    if not isinstance(job, RegisterJob):
        return len(job.source) * len(job.target)
    problem = job.problem
    if is_dense(problem):
        return bucket(len(problem.source)) * bucket(len(problem.target))
    return (len(problem.source) + len(problem.target)) * _neighbours(problem)


def _neighbours(problem: Problem) -> float:
    """Targets that a kernel of the problem's width reaches: few once σ is estimated, perhaps all where it is given."""
    count = len(problem.target)
    if isinstance(problem.prior, Tensor) or problem.sigma is None:
        return count if isinstance(problem.prior, Tensor) else min(count, NEIGHBOURS)
    extent = (problem.target.amax(0) - problem.target.amin(0)).clamp(min=1e-300)
    reach = (REACH * problem.sigma / extent).clamp(max=1.0)
    return min(count, max(count * float(reach.prod()), NEIGHBOURS))


def effort(job: Job) -> float:
    """What the job may cost in all, in pairs x D x iterations; it decides the lane."""
    if isinstance(job, StepJob):
        return cost(job) * job.source.shape[1]
    iterations = job.problem.max_iterations + (0 if is_dense(job.problem) else START_ITERATIONS)
    return (cost(job) * job.problem.source.shape[1] + ITERATION_OVERHEAD) * iterations


def key(job: Job) -> Hashable:
    """Registrations that share tensors, and that may take equally long; steps of one kind and shape."""
    if isinstance(job, RegisterJob):
        # What is computed one by one gains nothing from company, and would make it wait.
        alone = None if is_dense(job.problem) else id(job)
        return group_key(job.problem) if alone is None else alone, job.problem.max_iterations, job.problem.tolerance
    return type(job).__name__, *(tuple(tensor.shape) for part in job[:4] for tensor in _tensors(part))


def _tensors(part: Tensor | Parameters | None) -> tuple[Tensor, ...]:
    if part is None:
        return ()
    return (part,) if isinstance(part, Tensor) else part


def cancel(job: Job) -> None:
    """Nobody waits any longer: a registration stops at its next iteration. Steps are done before it matters."""
    if isinstance(job, RegisterJob):
        job.abandoned.set()


class EmWorker:
    """Registers, and computes single steps, on the processor."""

    @torch.inference_mode()
    def __call__(self, jobs: Sequence[Job]) -> Sequence[Result]:
        """One batch of jobs with equal keys."""
        registrations = [job.problem for job in jobs if isinstance(job, RegisterJob)]
        if registrations:
            return register_batch(registrations)
        arguments = [_stack(column) for column in zip(*jobs, strict=True)]
        result = STEPS[type(jobs[0])](*arguments)  # type: ignore[index]  # what is no registration is a step
        return [type(result)(*(part[index] for part in result)) for index in range(len(jobs))]


def _stack(column: Sequence[Any]) -> Tensor | Parameters | None:
    if column[0] is None:
        return None
    if isinstance(column[0], Parameters):
        return Parameters(*(torch.stack(field) for field in zip(*column, strict=True)))
    return torch.stack(list(column))


def registration(problem: Problem) -> RegisterJob:
    """A job for `problem` that stops where it stands once it is abandoned."""
    abandoned = threading.Event()
    return RegisterJob(problem._replace(cancelled=abandoned.is_set), abandoned)


_POINT = torch.zeros(1, 1, dtype=torch.float64)
# The corners of a lopsided tetrahedron, and of its shadow: whatever poses need is compiled before the first request.
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
    """Run every kind of registration once on the processor, which compiles what they need."""
    worker = EmWorker()
    for job in WARM_UP:
        worker([job])
