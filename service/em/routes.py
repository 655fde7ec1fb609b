"""EM's endpoints: each validates its body, awaits the engine and encodes the result."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from ..formats import json_slices
from ..formats.arrays import Float64
from ..web import npz_body
from ..web.json_body import read_json
from ..web.media import media_type
from ..web.negotiation import accepted, negotiate
from ..web.parts import BodyLimits, part
from ..web.routing import (
    COMPUTED,
    READ,
    StrictRoute,
    answer,
    json_content,
    operation,
    read_fields,
    read_timeout,
)
from ..web.threads import FEW_NUMBERS, off_loop, on_thread
from . import answer_arrays, batches, checks, ragged, representations, uploads, wire
from .engine import EmEngine
from .missing import Present, separate
from .outcome import Outcome
from .problem import Problem
from .schemas.answers import RegisterBatchAnswer, Registration
from .schemas.registration import RegisterBatchRequest, RegisterRequest
from .schemas.steps import (
    Expectation,
    ExpectationRequest,
    GivenParameters,
    LogLikelihood,
    LogLikelihoodRequest,
    Maximization,
    MaximizationRequest,
)
from .steps import Psi
from .worker import ExpectJob, LikelihoodJob, MaximizeJob, registration


def engine(request: Request) -> EmEngine:
    """The application's engine for registrations."""
    return part(request, EmEngine)


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


REGISTERED: dict[str, Any] = json_content(Registration) | representations.CONTENT
FORM = "multipart/form-data"
VARY = b"vary", b"Accept"
BODIES = ("application/json", npz_body.MEDIA_TYPE, FORM)
# Reading a problem, or making its answer, takes as long as an operation on this number of elements.
PROBLEM = 1 << 12


@router.post(
    "/register",
    **operation(
        REGISTERED,
        description="the transform and the matching; or the registered cloud or a picture, as selected by Accept",
        body=uploads.content(RegisterRequest) | npz_body.CONTENT,
        errors=(*READ, 406, *COMPUTED),
        sent=representations.HEADERS | {"Vary": "Accept"},
    ),
)
async def register(request: Request) -> Response:
    """Find the transform that moves the source onto the target, and match the points."""
    # An unsupported Accept is refused before the body is read.
    form = representations.negotiate(accepted(request))
    (body, present, warnings), timeout = await _read_registration(request), read_timeout(request)
    if form.kind == "json":
        outcome = await _solve(request, wire.problem(body), timeout)
        response = answer(await off_loop(len(body.source), _found, outcome, body, present, warnings))
    elif form.kind == "npz":
        response = await _answer_arrays(request, body, present, warnings, timeout)
    else:
        response = await _represent(request, form, body, present, warnings, timeout)
    response.raw_headers.append(VARY)
    return response


async def _solve(request: Request, problem: Problem, timeout: float | None) -> Outcome:
    job = await off_loop(len(problem.source) + len(problem.target), registration, problem)
    return await engine(request).solve(job, timeout)


def _found(outcome: Outcome, body: RegisterRequest, present: Present, warnings: tuple[str, ...]) -> dict[str, Any]:
    """The answer in the indices of the files, with the `warnings` from reading them."""
    found = wire.registration(outcome, body.transform)
    if warnings:
        found["warnings"] = *warnings, *outcome.warnings
    return present.restore(found)


async def _read_registration(request: Request) -> tuple[RegisterRequest, Present, tuple[str, ...]]:
    """The request, the masks of its files' points with coordinates, and warnings from reading the files."""
    kind = media_type(request)
    if kind == npz_body.MEDIA_TYPE:
        arrays = await npz_body.read_npz(request)
        return npz_body.validate(arrays, RegisterRequest, wire.errors_beside), Present(), ()
    if kind != FORM:
        return await read_json(request, RegisterRequest, BODIES, wire.errors_beside), Present(), ()
    form = await uploads.read_form(request, max_elements=part(request, BodyLimits).elements)
    return await off_loop(form.size, _read_form, form)


def _read_form(form: uploads.Form) -> tuple[RegisterRequest, Present, tuple[str, ...]]:
    fields, present = separate(form.fields)
    body = read_fields(fields, RegisterRequest, wire.errors_beside)
    present.check(body)
    body = present.reduce(body)
    body.bring_normals(present.of_points(form.normals))
    return body, present, (*form.warnings, *wire.use_columns(body, form.weight_columns))


async def _answer_arrays(
    request: Request, body: RegisterRequest, present: Present, warnings: tuple[str, ...], timeout: float | None
) -> Response:
    outcome = await _solve(request, wire.problem(body)._replace(registered=True), timeout)
    if outcome.registered is None:
        raise RuntimeError("the outcome lacks the registered cloud, which its problem requested")
    found = await off_loop(len(body.source), _found, outcome, body, present, warnings)
    points = found["registered"]
    if "registered" not in body.include:
        del found["registered"]
    response = await npz_body.answer_npz(
        lambda: answer_arrays.single(found, points), answer_arrays.elements([outcome], len(points))
    )
    response.headers.update(representations.headers(found))
    return response


async def _represent(
    request: Request,
    form: representations.Representation,
    body: RegisterRequest,
    present: Present,
    warnings: tuple[str, ...],
    timeout: float | None,
) -> Response:
    form.check_dimension(body.source.shape[1])
    moving = form.kind == "gif"
    problem = wire.problem(body, path=moving)._replace(responsibilities=False, trace=moving, registered=True)
    outcome = await _solve(request, problem, timeout)
    if outcome.registered is None:
        raise RuntimeError("the outcome lacks the registered cloud, which its problem requested")
    content = await on_thread(
        representations.encode,
        form,
        body.source,
        body.target,
        outcome.registered,
        wire.iterations(body, outcome),
        present.source,
    )
    headers = representations.headers(_found(outcome, body, Present(), warnings))
    return Response(content, headers=headers, media_type=form.media_type)


@router.post(
    "/register/batch",
    **operation(
        json_content(RegisterBatchAnswer) | npz_body.CONTENT,
        description="the result or the error of each problem, in order",
        body=json_content(RegisterBatchRequest) | npz_body.CONTENT,
        errors=(*READ, 406, *COMPUTED),
        sent={"Vary": "Accept"},
    ),
)
async def register_batch(request: Request) -> Response:
    """Register many problems. A problem that cannot be computed has its error as its result."""
    kind = negotiate(accepted(request), ("application/json", npz_body.MEDIA_TYPE), "a batch")
    em = engine(request)
    reader = batches.Reader(em.check_effort, lambda: read_timeout(request))
    if media_type(request) == npz_body.MEDIA_TYPE:
        arrays = await npz_body.read_npz(request)
        plans, source_offsets = await ragged.read(arrays, reader)
    else:
        body = await read_json(request, RegisterBatchRequest, ("application/json", npz_body.MEDIA_TYPE))
        numbers = max(len(body.problems) * PROBLEM, json_slices.size(body.problems[: FEW_NUMBERS // PROBLEM]))
        plans = await off_loop(numbers, reader.read_all, body.problems)
        source_offsets = batches.source_offsets(plans)
        if kind == npz_body.MEDIA_TYPE:
            answer_arrays.check_dimensions(plans)
    results = await batches.solve(em, plans, reader)
    if kind == npz_body.MEDIA_TYPE:
        response = await npz_body.answer_npz(
            lambda: answer_arrays.batch(plans, results, source_offsets),
            answer_arrays.elements(results, int(source_offsets[-1])),
        )
    else:
        numbers = max(len(results) * PROBLEM, int(source_offsets[-1]))
        found = await off_loop(numbers, batches.answers, plans, results)
        response = answer({"results": found})
    response.raw_headers.append(VARY)
    return response


@router.post(
    "/expectation",
    **operation(Expectation, description="R and Q", body=ExpectationRequest, errors=(*READ, *COMPUTED)),
)
async def expectation(request: Request) -> Response:
    """E-step: the responsibilities at ψ, and Q at a second set of parameters, by default ψ itself."""
    body, timeout = await read_json(request, ExpectationRequest), read_timeout(request)
    source, target = wire.points(body)
    psi = await _parameters(body, source, target, "")
    at = None if body.at is None else await _parameters(body.at, source, target, "/at")
    expected = await engine(request).submit(ExpectJob(source, target, psi, at), timeout)
    return answer(expected._asdict())


@router.post(
    "/maximization",
    **operation(Maximization, description="Π and T", body=MaximizationRequest, errors=(*READ, *COMPUTED)),
)
async def maximization(request: Request) -> Response:
    """M-step: the prior and the translation that maximise Q for given responsibilities."""
    body, timeout = await read_json(request, MaximizationRequest), read_timeout(request)
    source, target = wire.points(body)
    given, shape = body.responsibilities, (len(source), len(target))
    rows = await off_loop(given.size, checks.check_distribution, given, shape, "/responsibilities")
    maximized = await engine(request).submit(MaximizeJob(source, target, rows), timeout)
    return answer(maximized._asdict())


@router.post(
    "/log-likelihood",
    **operation(LogLikelihood, description="the log-likelihood", body=LogLikelihoodRequest, errors=(*READ, *COMPUTED)),
)
async def log_likelihood(request: Request) -> Response:
    """The log-likelihood at ψ: complete-data if an assignment Z is given, else observed-data."""
    body, timeout = await read_json(request, LogLikelihoodRequest), read_timeout(request)
    source, target = wire.points(body)
    psi = await _parameters(body, source, target, "")
    if body.assignment is None:
        expected = await engine(request).submit(ExpectJob(source, target, psi), timeout)
        return answer({"log_likelihood": expected.log_likelihood})
    given, shape = body.assignment, (len(source), len(target))
    rows = await off_loop(given.size, checks.check_assignment, given, shape, "/assignment")
    complete = await engine(request).submit(LikelihoodJob(source, target, psi, rows), timeout)
    return answer(complete._asdict())


async def _parameters(given: GivenParameters, source: Float64, target: Float64, at: str) -> Psi:
    numbers = 0 if given.prior is None else given.prior.size
    return await off_loop(numbers, wire.parameters, given, source, target, at)
