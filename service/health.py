"""Probes and metadata: /livez, /readyz, /metrics, and the Open Inference Protocol's /v2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from service.arrays import to_json
from service.batching import Batcher
from service.observability import Metrics
from service.problems import problem, responses
from service.routing import StrictRoute


@dataclass
class Health:
    """The service's state of life. `warm` and `draining` are set by the lifespan and the signal handler."""

    version: str
    stall_seconds: float
    models: Mapping[str, Mapping[str, object]]
    batchers: Mapping[str, Batcher[Any, Any]]
    metrics: Metrics
    warm: bool = False
    draining: bool = field(default=False)

    def stuck(self) -> list[str]:
        """Engines whose worker died, or sits on one batch for longer than anybody should."""
        return [name for name, batcher in self.batchers.items() if not batcher.is_alive(self.stall_seconds)]

    def unready(self) -> str:
        """Why no requests should be sent here; empty when they should."""
        if self.draining:
            return "the service is draining"
        return "" if self.warm else "the service is warming up"


class Status(BaseModel):
    """What a probe answers when all is well."""

    status: str


class ServerMetadata(BaseModel):
    """The server, as the Open Inference Protocol describes it."""

    name: str
    version: str
    extensions: list[str]


class ModelMetadata(BaseModel):
    """A model, as the Open Inference Protocol describes it."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]


async def health(request: Request) -> Health:
    """The state that the application was wired with."""
    found: Health = request.app.state.health
    return found


State = Annotated[Health, Depends(health)]
router = APIRouter(tags=["health"], route_class=StrictRoute)


def _json(content: object) -> Response:
    return Response(to_json(content), media_type="application/json", headers={"Cache-Control": "no-store"})


@router.get("/livez", response_model=Status, responses=responses(422, 503))
@router.get("/v2/health/live", response_model=Status, responses=responses(422, 503))
async def live(state: State) -> Response:
    """Is the process worth keeping? Fails when a worker died or hangs: restart it then."""
    if stuck := state.stuck():
        return problem(503, "stuck", f"the worker of {', '.join(stuck)} does not answer")
    return _json({"status": "live"})


@router.get("/readyz", response_model=Status, responses=responses(422, 503))
@router.get("/v2/health/ready", response_model=Status, responses=responses(422, 503))
async def ready(state: State) -> Response:
    """Should requests be sent here? Not before it is warm, and not while it drains."""
    if reason := state.unready():
        return problem(503, "not-ready", reason)
    return _json({"status": "ready"})


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **responses(422)},
)
async def metrics(state: State) -> Response:
    """Requests, queues, batch sizes and device time, in Prometheus' text format."""
    return Response(state.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v2", response_model=ServerMetadata, responses=responses(422))
async def server(state: State) -> Response:
    """Name and version of the server."""
    return _json({"name": "latentserve", "version": state.version, "extensions": []})


@router.get("/v2/models/{name}", response_model=ModelMetadata, responses=responses(404, 422))
async def model(name: str, state: State) -> Response:
    """Inputs, outputs and version of one model."""
    return _json(_model(state, name))


@router.get("/v2/models/{name}/ready", response_model=Status, responses=responses(404, 422, 503))
async def model_ready(name: str, state: State) -> Response:
    """Is this model ready?"""
    _model(state, name)
    return await ready(state)


def _model(state: Health, name: str) -> Mapping[str, object]:
    if name not in state.models:
        raise HTTPException(404, f"there is no model {name!r}; there are {', '.join(state.models)}")
    return state.models[name]
