"""create_app(settings): the only place where the parts are wired together."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from anyio import to_thread
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .em import routes as em
from .em import worker as em_worker
from .em.engine import EmEngine
from .errors import CheckpointError, InvalidInput
from .formats.json_numbers import reading as json_numbers
from .gan import caching, checkpoint, companions
from .gan import jobs as gan_jobs
from .gan import routes as gan
from .gan.networks import IMAGE_SIZE, LATENT_DIM
from .gan.worker import GanWorker
from .runtime import devices
from .runtime.batching import Batcher, JobT, Limits, ResultT
from .settings import Settings
from .vae import routes as vae
from .vae import worker as vae_worker
from .version import VERSION
from .web import health as probes
from .web.access_log import AccessLog
from .web.dispatch import Dispatch
from .web.edge import Edge
from .web.failures import FAILURES, answer_failure
from .web.health import Health
from .web.metrics import Metrics
from .web.observability import log
from .web.parts import BodyLimits
from .web.problems import ProblemDetails

# The timeout is described here and is not a parameter of the operations. Tools that test a service against its document
# would try timeouts of a millisecond, and report the 504s as faults.
DESCRIPTION = """\
The same request gives the same bytes, alone or in any batch.

Every error is `application/problem+json`. The header `X-Timeout-Seconds` sets a deadline: if the result is not ready by
then, the answer is a 504. Without the header there is no deadline. `X-Request-Id` identifies a request in the log, and
`X-Latentserve-Version` is the version of the service that answered. Every `GET` endpoint also answers `HEAD`.
"""


# Seconds to wait for the workers at the end. The server has already waited for running requests.
CLOSE_SECONDS = 1.0


SLICES = (em, vae, gan, probes)


class Parts(NamedTuple):
    """The parts that routes use. A route finds a part by its type; see `web.parts.part`."""

    health: Health
    limits: BodyLimits
    em: EmEngine
    vae: vae.VaeEngine
    gan: gan.GanEngine


class Application(FastAPI):
    """FastAPI with typed parts instead of `state`, and with schemas that the routes do not declare to FastAPI."""

    def __init__(self, parts: Parts, **options: Any) -> None:
        super().__init__(**options)
        self.parts = parts
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
            self.openapi_schema = document
        return self.openapi_schema


def create_app(settings: Settings | None = None) -> Application:
    """Build the application: read the checkpoint, place the engines on the device, mount the routes.

    Raises:
        CheckpointError: the checkpoint is missing or damaged, or a file differs from its manifest.
        InvalidInput: the device does not exist, or the root path begins with a path of the service.
    """
    settings = settings or Settings()
    device = devices.prepare(settings.device)
    metrics = Metrics()

    async def snapshots() -> list[bytes]:
        return [metrics.snapshot()]

    _check_folder(settings.checkpoints)
    generator, discriminator, manifest = checkpoint.load(settings.checkpoints)
    companion = companions.load(settings.checkpoints, manifest)
    gan_worker = GanWorker(generator, discriminator, device, companion)
    batchers = _batchers(settings, device, gan_worker, metrics)

    parts = Parts(
        health=Health(VERSION, _models(manifest.files), batchers, snapshots),
        limits=BodyLimits(settings.max_body_bytes, settings.max_inflight_bytes, settings.max_elements),
        em=EmEngine(batchers["em"], batchers["em-large"], settings.small_effort, settings.max_effort),
        vae=vae.VaeEngine(batchers["vae"]),
        gan=gan.GanEngine(
            {name: batchers[name] for name in gan_jobs.LANES},
            caching.build_tag(manifest.files, VERSION, devices.describe(device)),
            manifest.files[checkpoint.GENERATOR_FILE],
            companion is not None,
        ),
    )
    app = Application(
        parts,
        title="Latentserve",
        summary="EM registration, VAE reparameterization and GAN digits, batched.",
        description=DESCRIPTION,
        version=VERSION,
        license_info={"name": "MIT", "identifier": "MIT"},
        servers=[{"url": settings.root_path}] if settings.root_path else None,
        # A redirect to the path without its slash would use the Host header, and would lose the body of a POST.
        redirect_slashes=False,
        lifespan=_lifespan(parts.health),
        exception_handlers=dict.fromkeys((*FAILURES, Exception), answer_failure),
    )
    for part in SLICES:
        app.include_router(part.router)
    _check_root_path(settings.root_path, app.all_routes())
    app.enter_by(
        lambda framework: Edge(
            Dispatch(framework, app.all_routes()), metrics, AccessLog(settings), parts.limits, settings.root_path
        )
    )
    return app


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


def _batchers(
    settings: Settings, device: torch.device, gan_worker: GanWorker, metrics: Metrics
) -> dict[str, Batcher[Any, Any]]:
    def batcher(
        name: str,
        worker: Callable[[list[JobT]], Sequence[ResultT | Exception]],
        batch_cost: float,
        cost: Callable[[JobT], float],
        key: Callable[[JobT], Hashable] = lambda _: None,
        cancel: Callable[[JobT], None] = lambda _: None,
        stall_seconds: float = settings.stall_seconds,
    ) -> Batcher[JobT, ResultT]:
        return Batcher(
            name,
            worker,
            limits=Limits(settings.batch_items, batch_cost, settings.queue_items, batch_cost * settings.queue_batches),
            cost=cost,
            key=key,
            cancel=cancel,
            is_out_of_memory=devices.is_out_of_memory,
            stall_seconds=stall_seconds,
            observer=metrics.engine(name),
        )

    registration = em_worker.EmWorker()
    em_rules = settings.batch_pairs, em_worker.cost, em_worker.key, em_worker.cancel
    gan_rules = gan_jobs.cost, gan_jobs.key, gan_jobs.cancel
    # A batch of inversions is one image.
    batch_images = dict.fromkeys(gan_jobs.LANES, settings.batch_images) | {"gan-inversions": gan_jobs.INVERSION_COST}
    return {
        "em": batcher("em", registration, *em_rules),
        # A large registration has no time limit: it stops when its client disconnects or its deadline passes.
        "em-large": batcher("em-large", registration, *em_rules, stall_seconds=math.inf),
        "vae": batcher("vae", vae_worker.VaeWorker(device), settings.batch_elements, vae_worker.cost, vae_worker.key),
        **{name: batcher(name, gan_worker, batch_images[name], *gan_rules) for name in gan_jobs.LANES},
    }


def _lifespan(health: Health) -> Callable[[FastAPI], Any]:
    batchers = health.batchers.values()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for batcher in batchers:
            batcher.start()
        warming = asyncio.create_task(_warm_up(health))
        warming.add_done_callback(_report)
        try:
            yield
        finally:
            health.draining = True
            warming.cancel()
            await asyncio.gather(*(batcher.close(CLOSE_SECONDS) for batcher in batchers))

    return lifespan


def _report(warming: asyncio.Task[None]) -> None:
    if not warming.cancelled() and warming.exception() is not None:
        log.critical("warm-up failed; the service will not become ready", exc_info=warming.exception())


async def _warm_up(health: Health) -> None:
    """Run each engine once on typical jobs, so that no request waits for compilation or kernel selection."""
    log.info("warming up", compiles="the loops of registration, on the first start, for about a minute")
    await to_thread.run_sync(json_numbers.warm_up)
    jobs: dict[str, Sequence[Any]] = {
        "em": em_worker.warm_up_jobs(),
        "vae": vae_worker.WARM_UP,
        "gan": gan_jobs.WARM_UP,
    }
    for name, batcher in health.batchers.items():
        for job in jobs.get(name, ()):
            await batcher.submit(job)
    health.warm = True
    log.info("ready")


def _models(files: dict[str, str]) -> dict[str, dict[str, object]]:
    def tensor(name: str, datatype: str, *shape: int) -> dict[str, object]:
        return {"name": name, "datatype": datatype, "shape": shape}

    def model(name: str, version: str, inputs: list[object], outputs: list[object]) -> dict[str, object]:
        platform = "numba" if name == "em" else "pytorch"
        return {"name": name, "versions": [version], "platform": platform, "inputs": inputs, "outputs": outputs}

    return {
        "em": model(
            "em",
            VERSION,
            [tensor("source", "FP64", -1, -1), tensor("target", "FP64", -1, -1)],
            [tensor("translation", "FP64", -1), tensor("matching", "INT64", -1)],
        ),
        "vae": model(
            "vae",
            VERSION,
            [tensor(name, "FP64", -1, -1) for name in ("mu", "sigma", "grad_z", "noise")],
            [tensor(name, "FP64", -1, -1) for name in ("z", "grad_mu", "grad_sigma")],
        ),
        "gan": model(
            "gan",
            files[checkpoint.GENERATOR_FILE][:12],
            [tensor("latents", "FP32", -1, LATENT_DIM)],
            [tensor("images", "UINT8", -1, IMAGE_SIZE, IMAGE_SIZE), tensor("probability", "FP32", -1)],
        ),
    }
