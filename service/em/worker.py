"""EM's computation for a batch of jobs: list[Job] -> list[Result]."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from service.em import steps
from service.em.padding import bucket, group_key
from service.em.problem import Outcome, Problem
from service.em.register import register_batch
from service.em.steps import CompleteLikelihood, Expected, Maximized, Parameters


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


def cost(job: Job) -> float:
    """Pairs that one iteration touches."""
    if isinstance(job, RegisterJob):
        return bucket(len(job.problem.source)) * bucket(len(job.problem.target))
    return len(job.source) * len(job.target)


def effort(job: Job) -> float:
    """What the job may cost in all, in pairs x D x iterations; it decides the lane."""
    if isinstance(job, StepJob):
        return cost(job) * job.source.shape[1]
    return (cost(job) * job.problem.source.shape[1] + ITERATION_OVERHEAD) * job.problem.max_iterations


def key(job: Job) -> Hashable:
    """Registrations that share tensors, and that may take equally long; steps of one kind and shape."""
    if isinstance(job, RegisterJob):
        return group_key(job.problem), job.problem.max_iterations, job.problem.tolerance
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
    """Registers, and computes single steps, on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @torch.inference_mode()
    def __call__(self, jobs: Sequence[Job]) -> Sequence[Result]:
        """One batch of jobs with equal keys."""
        registrations = [job.problem for job in jobs if isinstance(job, RegisterJob)]
        if registrations:
            return register_batch(registrations, self._device)
        arguments = [self._stack(column) for column in zip(*jobs, strict=True)]
        result = STEPS[type(jobs[0])](*arguments)  # type: ignore[index]  # what is no registration is a step
        return [type(result)(*(part[index] for part in result)) for index in range(len(jobs))]

    def _stack(self, column: Sequence[Any]) -> Tensor | Parameters | None:
        if column[0] is None:
            return None
        if isinstance(column[0], Parameters):
            return Parameters(*(torch.stack(field).to(self._device) for field in zip(*column, strict=True)))
        return torch.stack(list(column)).to(self._device)


def registration(problem: Problem) -> RegisterJob:
    """A job for `problem` that stops where it stands once it is abandoned."""
    abandoned = threading.Event()
    return RegisterJob(problem._replace(cancelled=abandoned.is_set), abandoned)


_POINT = torch.zeros(1, 1, dtype=torch.float64)
WARM_UP: list[Job] = [registration(Problem(_POINT, _POINT)), registration(Problem(_POINT, _POINT, sigma=1.0))]
