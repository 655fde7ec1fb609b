"""create_app(settings): the only place where the parts are wired together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from . import lanes
from .em import routes as em
from .em.engine import EmEngine
from .errors import CheckpointError, InvalidInput
from .gan import caching, checkpoint, companions, passes
from .gan import jobs as gan_jobs
from .gan import routes as gan
from .gan.networks import Discriminator, Generator
from .gan.worker import GanWorker
from .lifespan import lifespan
from .models import described
from .runtime import devices
from .runtime.background import Background
from .runtime.board import Board, Seat
from .runtime.collector import replica_instruments
from .runtime.device_client import DeviceClient, DeviceLink
from .runtime.device_guard import DeviceGuard
from .runtime.gate import Gate
from .runtime.instruments import snapshot
from .runtime.quotas import Ledger, Quotas
from .settings import Settings
from .vae import routes as vae
from .version import VERSION
from .web import auth, pages
from .web import health as probes
from .web.access_log import AccessLog
from .web.dispatch import Dispatch
from .web.door import Door
from .web.edge import Edge
from .web.failures import FAILURES, answer_failure
from .web.health import Health
from .web.metrics import Metrics
from .web.observability import log
from .web.parts import BodyLimits
from .web.peers import Peers
from .web.problems import ProblemDetails

# The timeout is described here and is not a parameter of the operations. Tools that test a service against its document
# would try timeouts of a millisecond, and report the 504s as faults.
DESCRIPTION = """\
The same request gives the same bytes, alone or in any batch.

Every error is `application/problem+json`. The header `X-Timeout-Seconds` sets a deadline: if the result is not ready by
then, the answer is a 504. Without the header there is no deadline. `X-Request-Id` identifies a request in the log, and
`X-Latentserve-Version` is the version of the service that answered. Every `GET` endpoint also answers `HEAD`.
"""


SLICES = (em, vae, gan, probes)
ENGINES = ("em", "vae", "gan")
LANES = ("em", "em-large", "vae", *gan_jobs.LANES)
DOOR_LANES = ("em", "vae")  # of small jobs; a plain digit, which the event loop draws, has none
# Expected seconds until registration is compiled, for the hint of requests that come too early.
COMPILE_SECONDS = 60.0


class Parts(NamedTuple):
    """The parts that routes use. A route finds a part by its type; see `web.parts.part`."""

    health: Health
    limits: BodyLimits
    em: EmEngine
    vae: vae.VaeEngine
    gan: gan.GanEngine
    door: Door


class Application(FastAPI):
    """FastAPI with typed parts instead of `state`, and with schemas that the routes do not declare to FastAPI."""

    def __init__(self, parts: Parts, *, is_guarded: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.parts = parts
        self._is_guarded = is_guarded
        self._entry: ASGIApp = super().__call__

    def enter_by(self, layers: Callable[[ASGIApp], ASGIApp]) -> None:
        """Send requests through `layers(framework)`. FastAPI's own middleware would run inside its other layers."""
        self._entry = layers(super().__call__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI scope."""
        scope["app"] = self
        await self._entry(scope, receive, send)

    def all_routes(self) -> list[Route]:
        """The application's own routes and those of the included routers, which FastAPI stores separately."""
        routes = [*self.routes, *(route for part in SLICES for route in part.router.routes)]
        return [route for route in routes if isinstance(route, Route)]

    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, with the schemas that the operations name by reference. Built once."""
        if self.openapi_schema is None:
            document = get_openapi(
                title=self.title,
                version=self.version,
                summary=self.summary,
                description=self.description,
                routes=self.routes,
                license_info=self.license_info,
                servers=self.servers,
            )
            models = [ProblemDetails, *(model for part in SLICES for model in part.MODELS)]
            _, extra = models_json_schema(
                [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
            )
            document.setdefault("components", {}).setdefault("schemas", {}).update(extra["$defs"])
            if self._is_guarded:
                auth.describe(document)
            self.openapi_schema = document
        return self.openapi_schema


class Networks(NamedTuple):
    """The networks of a checkpoint folder, on the processor, and its manifest."""

    generator: Generator
    discriminator: Discriminator
    manifest: checkpoint.Manifest
    companions: companions.Companions | None


def load_networks(settings: Settings) -> Networks:
    """Read the checkpoint folder.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, or a file differs from its manifest.
    """
    _check_folder(settings.checkpoints)
    generator, discriminator, manifest = checkpoint.load(settings.checkpoints)
    return Networks(generator, discriminator, manifest, companions.load(settings.checkpoints, manifest))


def new_board(replicas: int) -> Board:
    """A board for `replicas` processes."""
    return Board(replicas, LANES, ENGINES)


def create_app(
    settings: Settings | None = None,
    networks: Networks | None = None,
    seat: Seat | None = None,
    collect: Callable[[], Awaitable[Sequence[bytes]]] | None = None,
    compiling: Background | None = None,
    quotas: Quotas | None = None,
    link: DeviceLink | None = None,
) -> Application:
    """Build the application: place the engines on the device, and mount the routes.

    Args:
        settings: read from the environment by default.
        networks: read from the checkpoint folder by default.
        seat: of this process on the board of the service; by default it is alone.
        collect: returns snapshots of the metrics of all processes; by default of this one.
        compiling: the process that compiles the loops of registration; None if this one loads or compiles them itself.
        quotas: of all processes, for the limits of API keys; by default of this one.
        link: to the process that computes on a GPU for all processes; by default this one computes by itself.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, or a file differs from its manifest.
        InvalidInput: the device does not exist, the root path begins with a path of the service, or the file of API
            keys is not valid.
    """
    settings = settings or Settings()
    found = networks or load_networks(settings)
    manifest, companion = found.manifest, found.companions
    seat = seat or new_board(1).seat(0)
    device, kind, forward = _place(settings.device, found, link, seat)
    metrics = Metrics(DOOR_LANES)
    peers = Peers(settings.trusted_proxies)
    quotas = quotas or Quotas(1)
    ring = None if settings.api_keys_file is None else auth.Ring(settings.api_keys_file, quotas, peers)
    caller = peers.name if ring is None else ring.name
    guard = DeviceGuard(partial(devices.computes, device), lambda error: log.critical("device lost", exc_info=error))

    async def snapshots() -> Sequence[bytes]:
        await asyncio.to_thread(metrics.measure)
        return [metrics.snapshot(), snapshot(replica_instruments())]

    gan_worker = GanWorker(found.generator, forward, companion)
    batchers = lanes.batchers(settings, guard, gan_worker, metrics, seat)
    registrations = Gate("registration is being compiled", COMPILE_SECONDS, settings.queue_items)

    parts = Parts(
        health=Health(
            VERSION,
            described(manifest.files),
            batchers,
            collect or snapshots,
            seat,
            metrics,
            guard,
            partial(_away, link),
        ),
        limits=BodyLimits(settings.max_body_bytes, settings.max_inflight_bytes, settings.max_elements),
        em=EmEngine(batchers["em"], batchers["em-large"], settings.small_effort, settings.max_effort, registrations),
        vae=vae.VaeEngine(batchers["vae"]),
        gan=gan.GanEngine(
            {name: batchers[name] for name in gan_jobs.LANES},
            caching.build_tag(manifest.files, VERSION, kind),
            manifest.files[checkpoint.GENERATOR_FILE],
            companion is not None,
        ),
        door=Door.of(settings, metrics, caller, lambda: seat.board.draining),
    )
    app = Application(
        parts,
        is_guarded=settings.api_keys_file is not None,
        title="Latentserve",
        summary="EM registration, VAE reparameterization and GAN digits, batched.",
        description=DESCRIPTION,
        version=VERSION,
        license_info={"name": "MIT", "identifier": "MIT"},
        servers=[{"url": settings.root_path}] if settings.root_path else None,
        # A redirect to the path without its slash would use the Host header, and would lose the body of a POST.
        redirect_slashes=False,
        docs_url=None,  # `_add_pages` adds pages of our own
        redoc_url=None,
        lifespan=lifespan(parts.health, registrations, compiling),
        exception_handlers=dict.fromkeys((*FAILURES, Exception), answer_failure),
    )
    for part in SLICES:
        app.include_router(part.router)
    _add_pages(app, settings.root_path)
    _check_root_path(settings.root_path, app.all_routes())

    def inner(framework: ASGIApp) -> ASGIApp:
        dispatch = Dispatch(framework, app.all_routes())
        return dispatch if ring is None else auth.Guard(dispatch, ring, Ledger(quotas, seat), settings.root_path)

    app.enter_by(
        lambda framework: Edge(
            inner(framework),
            metrics,
            AccessLog(settings),
            parts.limits,
            seat,
            caller,
            settings.root_path,
        )
    )
    return app


def _place(
    name: str, networks: Networks, link: DeviceLink | None, seat: Seat
) -> tuple[torch.device, str, passes.Passes]:
    """The device of this process, the kind of processor that draws, and the forward passes there."""
    generator, discriminator, _, companion = networks
    if link is not None and link.has_device(lambda: seat.beat(stuck=False)):
        client = DeviceClient(link, passes.FUNCTIONS)
        return devices.prepare("cpu"), link.state.kind, passes.remote(client, companion is not None)
    device = devices.prepare(name)
    return device, devices.describe(device), passes.local(generator, discriminator, device, companion)


def _away(link: DeviceLink | None) -> Sequence[str]:
    """The engines that need the process of the GPU while it is away."""
    return ["gan"] if link is not None and link.state.is_found and not link.state.is_ready else []


def _add_pages(app: Application, root_path: str) -> None:
    """Add /docs and /redoc."""
    for path, page in (("/docs", pages.swagger), ("/redoc", pages.redoc)):

        async def show(_: Request, page: Callable[[str], Response] = page) -> Response:
            return page(f"{root_path}/openapi.json")

        app.add_route(path, show, include_in_schema=False)


def _check_folder(checkpoints: Path) -> None:
    """Raise CheckpointError, with the cure, if the folder has no manifest."""
    manifest = checkpoints / checkpoint.MANIFEST_FILE
    if not manifest.exists():
        raise CheckpointError(
            f"{manifest}: no such file; set LATENTSERVE_CHECKPOINTS to the folder of a published model"
        )


def _check_root_path(root_path: str, routes: Sequence[Route]) -> None:
    """Raise InvalidInput if a path of the service begins like `root_path`: requests would be ambiguous."""
    first = "/".join(root_path.split("/")[:2])
    if first and any(f"{route.path}/".startswith(f"{first}/") for route in routes):
        raise InvalidInput(
            f"LATENTSERVE_ROOT_PATH is {root_path!r}, but paths of the service begin with {first}; "
            "choose another prefix"
        )
