"""EM's endpoints: each validates its body, awaits the engine and encodes the result."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from ..errors import InvalidInput, LatentserveError
from ..web.json_body import read_json
from ..web.media import media_type
from ..web.observability import log
from ..web.parts import BodyLimits, part
from ..web.problems import object_of_domain, object_of_validation, problem_object
from ..web.routing import (
    COMPUTED,
    READ,
    StrictRoute,
    answer,
    operation,
    read_fields,
    read_timeout,
)
from ..web.threads import THREADS
from . import checks, representations, uploads, wire
from .engine import EmEngine
from .missing import Present, separate
from .schemas.answers import RegisterBatchAnswer, Registration
from .schemas.options import MAX_WIRE_PAIRS
from .schemas.registration import RegisterBatchRequest, RegisterRequest
from .schemas.steps import (
    Expectation,
    ExpectationRequest,
    LogLikelihood,
    LogLikelihoodRequest,
    Maximization,
    MaximizationRequest,
)
from .worker import ExpectJob, LikelihoodJob, MaximizeJob


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


REGISTERED: dict[str, Any] = {
    "application/json": {"schema": {"$ref": "#/components/schemas/Registration"}}
} | representations.CONTENT
FORM = "multipart/form-data"


@router.post(
    "/register",
    **operation(
        REGISTERED,
        description="the transform and the matching; or the registered cloud or a picture, as selected by Accept",
        body=uploads.content(RegisterRequest),
        errors=(*READ, 406, *COMPUTED),
        sent=representations.HEADERS | {"Vary": "Accept"},
    ),
)
async def register(request: Request) -> Response:
    """Find the transform that moves the source onto the target, and match the points."""
    # An unsupported Accept is refused before the body is read.
    form = representations.negotiate(", ".join(request.headers.getlist("accept")))
    (body, present, warnings), timeout = await _read_registration(request), read_timeout(request)
    if form.kind == "json":
        outcome = await engine(request).solve(wire.problem(body), timeout)
        outcome = outcome._replace(warnings=(*warnings, *outcome.warnings))
        response = answer(present.restore(wire.registration(outcome, body.transform)))
    else:
        response = await _represent(request, form, body, present, warnings, timeout)
    response.headers["Vary"] = "Accept"
    return response


async def _read_registration(request: Request) -> tuple[RegisterRequest, Present, tuple[str, ...]]:
    """The request, the masks of its files' points with coordinates, and warnings from reading the files."""
    if media_type(request) != FORM:
        return await read_json(request, RegisterRequest, ("application/json", FORM), wire.errors_beside), Present(), ()
    form = await uploads.read_form(request, max_elements=part(request, BodyLimits).elements)
    fields, present = separate(form.fields)
    body = read_fields(fields, RegisterRequest, wire.errors_beside)
    present.check(body)
    return body, present, form.warnings


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
    outcome = await engine(request).solve(problem, timeout)
    if outcome.registered is None:
        raise RuntimeError("the outcome lacks the registered cloud, which its problem requested")
    content = await to_thread.run_sync(
        representations.encode,
        form,
        body.source,
        body.target,
        outcome.registered,
        wire.iterations(body, outcome),
        present.source,
        limiter=THREADS,
    )
    found = wire.registration(outcome._replace(warnings=(*warnings, *outcome.warnings)), body.transform)
    headers = representations.headers(found)
    return Response(content, headers=headers, media_type=form.media_type)


@router.post(
    "/register/batch",
    **operation(
        RegisterBatchAnswer,
        description="the result or the error of each problem, in order",
        body=RegisterBatchRequest,
        errors=(*READ, *COMPUTED),
    ),
)
async def register_batch(request: Request) -> Response:
    """Register many problems. A problem that cannot be computed has its error as its result."""
    body, em = await read_json(request, RegisterBatchRequest), engine(request)

    included = 0  # total numbers in the large parts of the answers

    async def one(index: int, raw: object) -> Mapping[str, object]:
        nonlocal included
        at = f"/problems/{index}"
        try:
            problem = RegisterRequest.model_validate(raw)
            if included + problem.wire_numbers > MAX_WIRE_PAIRS:
                raise InvalidInput(
                    "the answers of this batch would be too large; include fewer large parts",
                    pointer="/include",
                    allowed=f"at most {MAX_WIRE_PAIRS} numbers in total",
                )
            included += problem.wire_numbers
            # The problems before this one took time to read, so the time left is less for each.
            outcome = await em.solve(wire.problem(problem), read_timeout(request))
            return wire.registration(outcome, problem.transform)
        except ValidationError as error:
            errors: list[Any] = [*error.errors(include_url=False)]
            if isinstance(raw, dict):
                errors += wire.errors_beside(raw, errors)
            return object_of_validation(errors, list(RegisterRequest.model_fields), at)
        except LatentserveError as error:
            return object_of_domain(error, at)
        except Exception as error:  # the other problems keep their results
            log.error("problem failed", index=index, exc_info=error)
            return problem_object(500, "internal", "the service failed on this problem; the log has the cause")

    return answer({"results": await asyncio.gather(*(one(index, raw) for index, raw in enumerate(body.problems)))})


@router.post(
    "/expectation",
    **operation(Expectation, description="R and Q", body=ExpectationRequest, errors=(*READ, *COMPUTED)),
)
async def expectation(request: Request) -> Response:
    """E-step: the responsibilities at ψ, and Q at a second set of parameters, by default ψ itself."""
    body, timeout = await read_json(request, ExpectationRequest), read_timeout(request)
    source, target = wire.points(body)
    psi = wire.parameters(body, source, target, "")
    at = None if body.at is None else wire.parameters(body.at, source, target, "/at")
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
    shape = len(source), len(target)
    rows = checks.check_distribution(body.responsibilities, shape, "/responsibilities")
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
    psi = wire.parameters(body, source, target, "")
    if body.assignment is None:
        expected = await engine(request).submit(ExpectJob(source, target, psi), timeout)
        return answer({"log_likelihood": expected.log_likelihood})
    rows = checks.check_assignment(body.assignment, (len(source), len(target)), "/assignment")
    complete = await engine(request).submit(LikelihoodJob(source, target, psi, rows), timeout)
    return answer(complete._asdict())
