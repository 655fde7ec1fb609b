"""EM's endpoints: validate, await, encode."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from torch import Tensor

from service.arrays import Float64
from service.batching import Batcher
from service.em import steps
from service.em.covariance import MAX_DIMENSION
from service.em.problem import Init, Outcome, Problem, check, check_pair, check_sigma, check_translation
from service.em.schemas import (
    MAX_WIRE_PAIRS,
    Expectation,
    ExpectationRequest,
    GivenTransform,
    LogLikelihood,
    LogLikelihoodRequest,
    Maximization,
    MaximizationRequest,
    Pair,
    Parameters,
    RegisterBatchAnswer,
    RegisterBatchRequest,
    RegisterRequest,
    Registration,
)
from service.em.steps import CompleteLikelihood, Expected, Maximized
from service.em.steps import Parameters as Psi
from service.em.worker import ExpectJob, Job, LikelihoodJob, MaximizeJob, RegisterJob, Result, effort, registration
from service.errors import InvalidInput, LatentserveError
from service.observability import log
from service.problems import object_of_domain, object_of_validation, problem_object
from service.routing import COMPUTED, READ, StrictRoute, answer, operation, read_json, read_timeout


class EmEngine(NamedTuple):
    """Two ways to the same worker: a large problem occupies its thread for long, and small ones pass it by."""

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
        """The job's result; see `Batcher.submit`."""
        batcher = self.small if effort(job) <= self.small_effort else self.large
        return await batcher.submit(job, timeout)

    async def register(self, body: RegisterRequest, timeout: float | None) -> dict[str, Any]:
        """Register one problem, and say so in the wire's words."""
        job = registration(check(_problem(body)))
        if effort(job) > self.max_effort:
            raise InvalidInput(
                f"{len(body.source)} x {len(body.target)} pairs in {body.max_iterations} iterations are more than this "
                "server takes on",
                pointer="/max_iterations",
                allowed="fewer points, or fewer iterations",
            )
        return _registration(await self.submit(job, timeout))


def engine(request: Request) -> EmEngine:
    """The engine that the application was wired with."""
    found: EmEngine = request.app.state.em
    return found


router = APIRouter(prefix="/em", tags=["em"], route_class=StrictRoute)
MODELS = (
    RegisterRequest,
    Registration,
    RegisterBatchRequest,
    RegisterBatchAnswer,
    ExpectationRequest,
    Expectation,
    MaximizationRequest,
    Maximization,
    LogLikelihoodRequest,
    LogLikelihood,
)


@router.post(
    "/register",
    **operation(
        Registration, description="the transform and the matching", body=RegisterRequest, errors=(*READ, *COMPUTED)
    ),
)
async def register(request: Request) -> Response:
    """Find the translation that moves the source onto the target, and which point belongs to which."""
    body, timeout = await read_json(request, RegisterRequest), read_timeout(request)
    return answer(await engine(request).register(body, timeout))


@router.post(
    "/register/batch",
    **operation(
        RegisterBatchAnswer,
        description="one result or one problem for each problem, in order",
        body=RegisterBatchRequest,
        errors=(*READ, *COMPUTED),
    ),
)
async def register_batch(request: Request) -> Response:
    """Register many problems. A problem that cannot be computed is answered with its error in its place."""
    body, timeout = await read_json(request, RegisterBatchRequest), read_timeout(request)
    em = engine(request)

    wire = 0

    async def one(index: int, raw: object) -> Mapping[str, object]:
        nonlocal wire
        at = f"/problems/{index}"
        try:
            problem = RegisterRequest.model_validate(raw)
            if wire + problem.wire_numbers > MAX_WIRE_PAIRS:
                raise InvalidInput(
                    "the answers of one batch would be too large; ask for fewer large parts",
                    pointer="/include",
                    allowed=f"at most {MAX_WIRE_PAIRS} numbers in all",
                )
            wire += problem.wire_numbers
            return await em.register(problem, timeout)
        except ValidationError as error:
            return object_of_validation(error.errors(include_url=False), list(RegisterRequest.model_fields), at)
        except LatentserveError as error:
            return object_of_domain(error, at)
        except Exception as error:  # the other problems keep their results
            log.error("problem failed", index=index, exc_info=error)
            return problem_object(500, "internal", "the service failed on this problem; its log has the cause")

    return answer({"results": await asyncio.gather(*(one(index, raw) for index, raw in enumerate(body.problems)))})


@router.post(
    "/expectation",
    **operation(Expectation, description="R and Q", body=ExpectationRequest, errors=(*READ, *COMPUTED)),
)
async def expectation(request: Request) -> Response:
    """E-step: the responsibilities at ψ, and Q of a second set of parameters, or of ψ itself."""
    body, timeout = await read_json(request, ExpectationRequest), read_timeout(request)
    source, target = _points(body)
    psi = _parameters(body, source, target, "")
    at = None if body.at is None else _parameters(body.at, source, target, "/at")
    expected = await engine(request).submit(ExpectJob(source, target, psi, at), timeout)
    return answer({name: values.numpy(force=True) for name, values in expected._asdict().items()})


@router.post(
    "/maximization",
    **operation(Maximization, description="Π and T", body=MaximizationRequest, errors=(*READ, *COMPUTED)),
)
async def maximization(request: Request) -> Response:
    """M-step: the prior and the translation that maximise Q, from the responsibilities."""
    body, timeout = await read_json(request, MaximizationRequest), read_timeout(request)
    source, target = _points(body)
    shape = len(source), len(target)
    rows = steps.check_distribution(torch.from_numpy(body.responsibilities), shape, "/responsibilities")
    maximized = await engine(request).submit(MaximizeJob(source, target, rows), timeout)
    return answer({name: values.numpy(force=True) for name, values in maximized._asdict().items()})


@router.post(
    "/log-likelihood",
    **operation(LogLikelihood, description="the number", body=LogLikelihoodRequest, errors=(*READ, *COMPUTED)),
)
async def log_likelihood(request: Request) -> Response:
    """The log-likelihood at ψ: complete-data with an assignment Z, observed-data without."""
    body, timeout = await read_json(request, LogLikelihoodRequest), read_timeout(request)
    source, target = _points(body)
    psi = _parameters(body, source, target, "")
    if body.assignment is None:
        expected = await engine(request).submit(ExpectJob(source, target, psi), timeout)
        return answer({"log_likelihood": expected.log_likelihood.item()})
    rows = steps.check_assignment(torch.from_numpy(body.assignment), (len(source), len(target)), "/assignment")
    complete = await engine(request).submit(LikelihoodJob(source, target, psi, rows), timeout)
    return answer({name: value.item() for name, value in complete._asdict().items()})


def _points(body: Pair) -> tuple[Tensor, Tensor]:
    return check_pair(torch.from_numpy(body.source), torch.from_numpy(body.target))


def _parameters(body: Parameters, source: Tensor, target: Tensor, at: str) -> Psi:
    (n, dimension), m = source.shape, len(target)
    translation = torch.zeros(dimension, dtype=torch.float64)
    if body.translation is not None:
        translation = check_translation(torch.from_numpy(body.translation), dimension, f"{at}/translation")
    prior = torch.full((1, 1), 1 / m, dtype=torch.float64)
    if body.prior is not None:
        prior = steps.check_distribution(torch.from_numpy(body.prior), (n, m), f"{at}/prior")
    sigma = torch.tensor(check_sigma(body.sigma, f"{at}/sigma"), dtype=torch.float64)
    return Psi(translation, prior, sigma)


def _problem(body: RegisterRequest) -> Problem:
    return Problem(
        torch.from_numpy(body.source),
        torch.from_numpy(body.target),
        sigma=body.sigma,
        prior=body.prior,
        init=_init(body),
        max_iterations=body.max_iterations,
        tolerance=body.tolerance,
        matching=body.matching,
        responsibilities="responsibilities" in body.include,
        registered="registered" in body.include,
        trace="trace" in body.include,
    )


def _init(body: RegisterRequest) -> Init | Tensor:
    if isinstance(body.init, str):
        return body.init
    return torch.from_numpy(body.init.translation if isinstance(body.init, GivenTransform) else body.init)


def _registration(outcome: Outcome) -> dict[str, Any]:
    translation = outcome.translation.numpy()
    dimension = len(translation)
    matrices = dimension <= MAX_DIMENSION
    covariance = outcome.translation_covariance
    found: dict[str, Any] = {
        "translation": translation,
        "rotation": np.eye(dimension) if matrices else None,
        "scale": 1.0,
        "matrix": _matrix(translation) if matrices else None,
        "matching": [None if j < 0 else j for j in outcome.matching.tolist()],
        "matching_probability": outcome.matching_probability.numpy(),
        "sigma": outcome.sigma,
        "log_likelihood": outcome.log_likelihood,
        "translation_covariance": None if covariance is None else covariance.numpy(),
        "iterations": outcome.iterations,
        "converged": outcome.converged,
        "stop_reason": outcome.stop_reason,
        "start": outcome.start,
    }
    if outcome.responsibilities is not None:
        found["responsibilities"] = outcome.responsibilities.numpy()
    if outcome.registered is not None:
        found["registered"] = outcome.registered.numpy()
    if outcome.trace is not None:
        found["trace"] = {name: values.numpy() for name, values in outcome.trace._asdict().items()}
    return found


def _matrix(translation: Float64) -> Float64:
    matrix = np.eye(len(translation) + 1)
    matrix[:-1, -1] = translation
    return matrix
