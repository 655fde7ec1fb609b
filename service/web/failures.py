"""The answer to each kind of exception that an endpoint raises."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from ..errors import DeadlineExceeded, LatentserveError, Overloaded
from .problems import from_domain, from_validation, problem
from .routing import name_deadline

# Key of the scope's state that notes a refusal because of overload, with the predicted seconds of the request, or 0.
REFUSED = "latentserve.refused"
# Key of the scope's state that has the status of the answer that the connection gave in place of the application.
REJECTED = "latentserve.rejected"

# All other exceptions are faults of the service.
FAILURES: tuple[type[Exception], ...] = (LatentserveError, RequestValidationError, HTTPException)


async def answer_failure(request: Request, error: Exception) -> Response:
    """The problem for an exception: by its kind in `FAILURES`, or a 500 without details for any other."""
    if isinstance(error, DeadlineExceeded):
        return from_domain(name_deadline(request, error))
    if isinstance(error, LatentserveError):
        if isinstance(error, Overloaded):
            # For the connection, whose scope shares this object.
            request.scope.get("state", {})[REFUSED] = error.predicted
        return from_domain(error)
    if isinstance(error, RequestValidationError):
        model = error.body
        known = list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
        return from_validation(error.errors(), [] if known == ["root"] else known)
    if isinstance(error, HTTPException):
        return _http_failure(request, error)
    return internal()


def internal() -> Response:
    """The problem for a fault of the service."""
    return problem(500, "internal", "the service failed on this request; its log has the cause")


def _http_failure(request: Request, error: HTTPException) -> Response:
    headers: Mapping[str, str] | None = error.headers
    if error.status_code == 404 and "route" not in request.scope:
        document = request.scope.get("root_path", "") + "/openapi.json"
        detail = f"no endpoint has the path {request.url.path}; {document} lists all paths"
    elif error.status_code == 405:
        # The framework lists the methods of the first route only, but a path may have one route for each method.
        methods = {
            method
            for route in request.app.all_routes()
            if route.matches(request.scope)[0] != Match.NONE
            for method in route.methods or ()
        }
        if "GET" in methods:
            methods.add("HEAD")
        headers = {"Allow": ", ".join(sorted(methods))}
        detail = f"{request.method} is not allowed at {request.url.path}; allowed: {headers['Allow']}"
    else:
        detail = str(error.detail)
    return problem(error.status_code, "http", detail, headers=headers)
