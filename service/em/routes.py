"""EM's endpoints: validate, await, encode."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from anyio import to_thread
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from torch import Tensor

from ..errors import InvalidInput, LatentserveError
from ..formats.arrays import Float64
from ..runtime.batching import Batcher
from ..web.media import media_type
from ..web.observability import log
from ..web.problems import object_of_domain, object_of_validation, problem_object
from ..web.routing import (
    COMPUTED,
    READ,
    StrictRoute,
    answer,
    operation,
    read_fields,
    read_json,
    read_timeout,
)
from . import representations, steps, uploads
from .batched.covariance import MAX_DIMENSION
from .problem import (
    Init,
    Outcome,
    Pose,
    Problem,
    Transform,
    check,
    check_pair,
    check_sigma,
    check_translation,
)
from .schemas import (
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
from .steps import CompleteLikelihood, Expected, Maximized
from .steps import Parameters as Psi
from .worker import (
    ExpectJob,
    Job,
    LikelihoodJob,
    MaximizeJob,
    RegisterJob,
    Result,
    effort,
    registration,
)


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
        return _registration(await self.solve(_problem(body), timeout), body.transform)

    async def solve(self, problem: Problem, timeout: float | None) -> Outcome:
        """Register one problem."""
        job = registration(check(problem))
        if effort(job) > self.max_effort:
            raise InvalidInput(
                f"{len(problem.source)} x {len(problem.target)} pairs in {problem.max_iterations} iterations are more "
                "than this server takes on",
                pointer="/max_iterations",
                allowed="fewer points, or fewer iterations",
            )
        return await self.submit(job, timeout)


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


REGISTERED: dict[str, Any] = {
    "application/json": {"schema": {"$ref": "#/components/schemas/Registration"}}
} | representations.CONTENT
FORM = "multipart/form-data"


@router.post(
    "/register",
    **operation(
        REGISTERED,
        description="the transform and the matching; or, as Accept asks, the registered cloud or a picture",
        body=uploads.content(RegisterRequest),
        errors=(*READ, 406, *COMPUTED),
        sent=representations.HEADERS | {"Vary": "Accept"},
    ),
)
async def register(request: Request) -> Response:
    """Find the transform that moves the source onto the target, and which point belongs to which."""
    # What cannot be answered is refused before the body is read.
    form = representations.negotiate(", ".join(request.headers.getlist("accept")))
    body, timeout = await _read_registration(request), read_timeout(request)
    if form.kind == "json":
        response = answer(await engine(request).register(body, timeout))
    else:
        response = await _represent(request, form, body, timeout)
    response.headers["Vary"] = "Accept"
    return response


async def _read_registration(request: Request) -> RegisterRequest:
    if media_type(request) != FORM:
        return await read_json(request, RegisterRequest, ("application/json", FORM))
    limit = request.app.state.max_elements
    return read_fields(await uploads.read_form(request, max_elements=limit), RegisterRequest)


async def _represent(
    request: Request, form: representations.Representation, body: RegisterRequest, timeout: float | None
) -> Response:
    form.check_dimension(body.source.shape[1])
    moving = form.kind == "gif"
    problem = _problem(body, path=moving)._replace(responsibilities=False, trace=moving, registered=True)
    outcome = await engine(request).solve(problem, timeout)
    if outcome.registered is None:
        raise RuntimeError("the registered cloud was asked for")
    content = await to_thread.run_sync(
        representations.encode,
        form,
        body.source,
        body.target,
        outcome.registered.numpy(),
        _frames(body, outcome),
        limiter=uploads.THREADS,
    )
    headers = representations.headers(_registration(outcome, body.transform))
    return Response(content, headers=headers, media_type=form.media_type)


def _frames(body: RegisterRequest, outcome: Outcome) -> representations.Iterations:
    """The source on its way, for a picture that moves."""
    poses = outcome.path
    if not poses and outcome.trace is not None:
        return representations.Iterations(body.source, outcome.trace.translation.numpy())
    dimension = body.source.shape[1]
    if not poses:
        return representations.Iterations(body.source, np.empty((0, dimension)))
    translations = np.stack([pose.translation.numpy() for pose in poses])
    linear = np.stack([pose.linear.numpy() for pose in poses])
    return representations.Iterations(body.source, translations, linear, _numbers(outcome.displacement))


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


def _problem(body: RegisterRequest, *, path: bool = False) -> Problem:
    prior = torch.from_numpy(body.prior) if isinstance(body.prior, np.ndarray) else body.prior
    return Problem(
        torch.from_numpy(body.source),
        torch.from_numpy(body.target),
        sigma=body.sigma,
        transform=body.transform,
        prior=prior,
        outlier_weight=body.outlier_weight,
        normalize=body.normalize,
        init=_init(body),
        max_iterations=body.max_iterations,
        tolerance=body.tolerance,
        matching=body.matching,
        refine=body.refine,
        beta=body.beta,
        stiffness=body.stiffness,
        responsibilities="responsibilities" in body.include,
        registered="registered" in body.include,
        trace="trace" in body.include,
        path=path,
    )


def _init(body: RegisterRequest) -> Init | Tensor | Pose:
    init = body.init
    if isinstance(init, str):
        return init
    if not isinstance(init, GivenTransform):
        return torch.from_numpy(init)
    dimension = body.source.shape[1]
    if init.matrix is not None:
        linear, translation = init.matrix[:-1, :-1], init.matrix[:-1, -1]
    else:
        turn = np.eye(dimension) if init.rotation is None else init.rotation
        linear = init.scale * turn
        translation = np.zeros(dimension) if init.translation is None else init.translation
    if init.matrix is None and init.rotation is None and init.scale == 1:
        return torch.from_numpy(translation)
    return Pose(torch.from_numpy(np.ascontiguousarray(linear)), torch.from_numpy(np.ascontiguousarray(translation)))


def _registration(outcome: Outcome, transform: Transform) -> dict[str, Any]:
    translation = outcome.translation.numpy()
    dimension = len(translation)
    matrices = dimension <= MAX_DIMENSION
    linear = (np.eye(dimension) if outcome.linear is None else outcome.linear.numpy()) if matrices else None
    rotation, scale = linear, None if transform == "affine" else 1.0
    if linear is not None and transform == "affine":
        rotation = None
    elif linear is not None and transform != "translation":
        # ‖sR‖² = s² D; a determinant would underflow sooner.
        scale = float(np.linalg.norm(linear)) / math.sqrt(dimension) if transform == "similarity" else 1.0
        rotation = linear / scale
    found: dict[str, Any] = {
        "translation": translation,
        "rotation": rotation,
        "scale": scale,
        "matrix": None if linear is None else _matrix(linear, translation),
        "matching": [None if j < 0 else j for j in outcome.matching.tolist()],
        "matching_probability": outcome.matching_probability.numpy(),
        "outlier_weight": outcome.outlier_weight,
        "outlier_probability": _numbers(outcome.outlier_probability),
        "sigma": outcome.sigma,
        "log_likelihood": outcome.log_likelihood,
        "translation_covariance": _numbers(outcome.translation_covariance),
        "rotation_covariance": _numbers(outcome.rotation_covariance),
        "iterations": outcome.iterations,
        "converged": outcome.converged,
        "stop_reason": outcome.stop_reason,
        "start": outcome.start,
        "runner_up": None
        if outcome.runner_up is None
        else {
            "matrix": _matrix(outcome.runner_up.pose.linear.numpy(), outcome.runner_up.pose.translation.numpy()),
            "log_likelihood_gap": outcome.runner_up.gap,
        },
        "warnings": outcome.warnings,
    }
    for name in ("responsibilities", "registered", "displacement"):
        values = getattr(outcome, name)
        if values is not None:
            found[name] = values.numpy()
    if outcome.trace is not None:
        found["trace"] = {name: _numbers(values) for name, values in outcome.trace._asdict().items()}
    return found


def _numbers(values: Tensor | None) -> Float64 | None:
    return None if values is None else values.numpy()


def _matrix(linear: Float64, translation: Float64) -> Float64:
    matrix = np.eye(len(translation) + 1)
    matrix[:-1, :-1] = linear
    matrix[:-1, -1] = translation
    return matrix
