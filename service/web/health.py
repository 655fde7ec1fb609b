"""Probes and metadata: /livez, /readyz, /metrics, and the Open Inference Protocol's /v2."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from ..runtime.batching import Batcher
from ..runtime.board import Seat
from ..runtime.device_guard import DeviceGuard
from .metrics import Metrics, exposition
from .parts import part
from .problems import problem
from .routing import StrictRoute, answer, operation


@dataclass
class Health:
    """State behind the probes. The lifespan notes in `seat` which engines are ready."""

    version: str
    models: Mapping[str, Mapping[str, object]]
    batchers: Mapping[str, Batcher[Any, Any]]
    snapshots: Callable[[], Awaitable[Sequence[bytes]]]
    """Snapshots of the metrics, one of each process."""
    seat: Seat
    """The numbers that this process shares with the others of the service."""
    metrics: Metrics
    """Those of this process."""
    guard: DeviceGuard = field(default_factory=DeviceGuard)
    """That of the device."""
    away: Callable[[], Sequence[str]] = tuple
    """Returns the engines whose device is away, until its process has been replaced."""
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once this process takes connections."""
    warm: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once all engines of this process are ready."""
    warm_up_failed: bool = False
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once this process serves alone and will not go on. It then ends, so that it is started again."""

    def join(self) -> None:
        """Begin to take connections."""
        self.seat.join()
        self.joined.set()

    def stuck(self) -> list[str]:
        """What will not go on: a warm-up that failed, a lost device, and lanes that died or have stalled."""
        lanes = [name for name, batcher in self.batchers.items() if not batcher.is_alive()]
        return [*["warm-up"] * self.warm_up_failed, *["device"] * self.guard.is_lost, *lanes]

    def dead(self) -> str:
        """Why no process can serve; empty if one can."""
        board, stuck = self.seat.board, self.stuck()
        if not stuck or any(board.can_serve(other) for other in board.live() if other != self.seat.replica):
            return ""
        return f"failed or stalled: {', '.join(stuck)}"

    def unready(self, engines: Sequence[str] = ()) -> str:
        """Why the service is not ready, or one of `engines` is not; empty when all are."""
        board = self.seat.board
        if board.draining:
            return "the service is draining"
        away = self.away()
        wanted = engines or self.models
        if lost := [name for name in wanted if name in away]:
            return f"the process of the GPU is being replaced: {', '.join(lost)}"
        missing = [name for name in wanted if not board.is_ready(name)]
        return f"warming up: {', '.join(missing)}" if missing else ""


class Status(BaseModel):
    """Answer of a probe that succeeds."""

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


def health(request: Request) -> Health:
    """The application's health."""
    return part(request, Health)


router = APIRouter(tags=["health"], route_class=StrictRoute)
MODELS = (Status, ServerMetadata, ModelMetadata)


PROBE: dict[str, Any] = operation(Status, description="the probe succeeds", errors=(422, 503))


@router.get("/livez", **PROBE)
@router.get("/v2/health/live", **PROBE)
async def live(request: Request) -> Response:
    """Report whether a process of the service can answer. If this fails, restart the service."""
    if reason := health(request).dead():
        return problem(503, "stuck", reason)
    return answer({"status": "live"})


@router.get("/readyz", **PROBE)
@router.get("/v2/health/ready", **PROBE)
async def ready(request: Request) -> Response:
    """Report whether the service accepts requests. It does not during warm-up, while a GPU is away, and at its end."""
    if reason := health(request).unready():
        return problem(503, "not-ready", reason)
    return answer({"status": "ready"})


@router.get(
    "/metrics",
    **operation(
        {kind: {"schema": {"type": "string"}} for kind in ("text/plain", "application/openmetrics-text")},
        description="Prometheus' text format, or OpenMetrics with exemplars if `Accept` names it",
    ),
)
async def metrics(request: Request) -> Response:
    """Metrics of requests, queues, batches and device time, over all processes of the service."""
    snapshots = await health(request).snapshots()
    text, media_type = await asyncio.to_thread(exposition, snapshots, request.headers.get("Accept", ""))
    return Response(text, media_type=media_type)


@router.get("/v2", **operation(ServerMetadata, description="name and version"))
async def server(request: Request) -> Response:
    """Name and version of the server."""
    return answer({"name": "latentserve", "version": health(request).version, "extensions": []})


@router.get("/v2/models/{name}", **operation(ModelMetadata, description="the metadata of the model", errors=(404, 422)))
async def model(name: str, request: Request) -> Response:
    """Inputs, outputs and version of one model."""
    return answer(_model(health(request), name))


@router.get("/v2/models/{name}/ready", **operation(Status, description="the model is ready", errors=(404, 422, 503)))
async def model_ready(name: str, request: Request) -> Response:
    """Report whether the model is ready."""
    _model(health(request), name)
    if reason := health(request).unready([name]):
        return problem(503, "not-ready", reason)
    return answer({"status": "ready"})


def _model(state: Health, name: str) -> Mapping[str, object]:
    if name not in state.models:
        raise HTTPException(404, f"unknown model {name!r}; the models are {', '.join(state.models)}")
    return state.models[name]
