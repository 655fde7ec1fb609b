"""The short way to an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fastapi import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .cycle import Headers
from .failures import FAILURES, answer_failure
from .routing import StrictRoute

# Sends the status, the headers and the body of an answer, or returns False.
Answer = Callable[[int, Headers, bytes | memoryview], bool]


class Dispatch:
    """Calls the endpoints of fixed paths directly, and passes all other requests to the framework.

    The framework would compare the path with each route in turn. It would then solve the parameters of the endpoint,
    which has none but the request. For a small request this takes longer than the endpoint itself.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[Route]) -> None:
        self._app = app
        self._routes = {
            (method, route.path): route
            for route in routes
            if isinstance(route, StrictRoute) and route.is_fixed
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        route = self._route(scope) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive, send)
        try:
            response = await route.answer(request)
        except FAILURES as error:
            response = await answer_failure(request, error)
        # Without its messages, each of which is a coroutine in each layer.
        if type(response) is Response and response.background is None:
            answer: Answer | None = getattr(send, "answer", None)
            if answer is not None and answer(response.status_code, response.raw_headers, response.body):
                return
        await response(scope, receive, send)

    def _route(self, scope: Scope) -> StrictRoute | None:
        path: str = scope["path"]
        if root_path := scope.get("root_path"):
            path = path.removeprefix(root_path)
        return self._routes.get((scope["method"], path))
