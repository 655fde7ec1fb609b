"""The GAN's endpoints: validate, await, encode."""

from __future__ import annotations

import secrets
import threading
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import PIL
import scipy
import torch
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from ..errors import InvalidInput
from ..runtime.batching import Batcher
from ..web.routing import (
    COMPUTED,
    READ,
    Status,
    StrictRoute,
    answer,
    operation,
    read_json,
    read_query,
    read_timeout,
)
from . import answers, uploads
from .fields import MAX_SEED
from .jobs import (
    DiscriminateJob,
    GenerateJob,
    InterpolateJob,
    InvertJob,
    Job,
    Lane,
    Result,
    lane,
)
from .schemas import Drawing, GenerateQuery, GenerateRequest, Images, InterpolateQuery
from .uploads import BINARY, DiscriminateRequest, Inversions, InvertRequest, Judgement, Options


class GanEngine(NamedTuple):
    """What the endpoints need: the ways to the worker, and what answers depend on besides the request."""

    lanes: Mapping[Lane, Batcher[Job, Result]]
    build: str
    checkpoint: str
    """sha256 of the generator."""
    has_companions: bool

    async def submit(self, job: Job, timeout: float | None) -> Result:
        """The result of `job`, by the lane that it belongs to."""
        return await self.lanes[lane(job)].submit(job, timeout)


def build_tag(digests: Mapping[str, str], version: str, processor: str) -> str:
    """Everything but the request that a picture's bytes, and its scores, depend on; `digests` are the checkpoint's."""
    libraries = torch.__version__, np.__version__, scipy.__version__, PIL.__version__, zlib.ZLIB_RUNTIME_VERSION
    return " ".join([*(digests[name] for name in sorted(digests)), version, *libraries, processor])


def engine(request: Request) -> GanEngine:
    """The engine that the application was wired with."""
    found: GanEngine = request.app.state.gan
    return found


router = APIRouter(prefix="/gan", tags=["gan"], route_class=StrictRoute)
MODELS = (GenerateRequest, Images, DiscriminateRequest, Judgement, InvertRequest, Inversions)

PICTURES: dict[str, Any] = {
    "image/png": BINARY,
    "image/webp": BINARY,
    "application/x-npy": BINARY,
    "application/json": {"schema": {"$ref": "#/components/schemas/Images"}},
}
ANIMATIONS: dict[str, Any] = dict.fromkeys(answers.ANIMATION_TYPES.values(), BINARY)
IF_NONE_MATCH = {"name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"}}
IMMUTABLE = "public, max-age=31536000, immutable"


def unchanged(sent: Mapping[str, str]) -> Status:
    """The document's 304, with the headers that it bears."""
    return Status(304, "what If-None-Match names is still what this request gives", sent)


@router.get(
    "/generate",
    **operation(
        PICTURES,
        description="one picture, a grid of them, or the images themselves",
        query=GenerateQuery,
        errors=COMPUTED,
        headers=[IF_NONE_MATCH],
        sent=answers.CACHING | answers.SEED | answers.SCORES | answers.CHOICES,
        statuses=[unchanged(answers.CACHING | answers.SEED)],
    ),
)
async def generate(request: Request) -> Response:
    """Draw digits. With a seed the answer never changes and may be cached for ever; without, one is drawn."""
    query, timeout, gan = read_query(request, GenerateQuery), read_timeout(request), engine(request)
    _check(query, gan)
    seed = draw_seed() if query.seed is None else query.seed
    headers = {"X-Seed": str(seed)} | ({"Cache-Control": "no-store"} if query.seed is None else _immutable(query, gan))
    etag = headers.get("ETag")
    if etag is not None and answers.matches(request.headers.getlist("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    job = _job(query, seed, score=query.scores or query.format == "json")
    return await answers.images(await gan.submit(job, timeout), query, answers.Source(seed, gan.checkpoint), headers)


@router.post(
    "/generate",
    **operation(
        PICTURES,
        description="the images, with their scores in the JSON or in headers",
        body=GenerateRequest,
        errors=(*READ, *COMPUTED),
        sent={"Cache-Control": "no-store"} | answers.SEED | answers.SCORES | answers.CHOICES,
    ),
)
async def generate_from(request: Request) -> Response:
    """Draw digits from latents of your own, or from a seed, and judge them."""
    body, timeout, gan = await read_json(request, GenerateRequest), read_timeout(request), engine(request)
    _check(body, gan)
    seed = body.seed
    if body.latents is not None:
        job = GenerateJob(body.number, latents=body.latents.astype(np.float32), score=True)
    else:
        seed = draw_seed() if seed is None else seed
        job = _job(body, seed, score=True)
    headers = {"Cache-Control": "no-store"} | ({} if seed is None else {"X-Seed": str(seed)})
    return await answers.images(await gan.submit(job, timeout), body, answers.Source(seed, gan.checkpoint), headers)


@router.get(
    "/interpolate",
    **operation(
        ANIMATIONS,
        description="an animation that never ends",
        query=InterpolateQuery,
        errors=COMPUTED,
        headers=[IF_NONE_MATCH],
        sent=answers.CACHING | answers.CHOICES,
        statuses=[unchanged(answers.CACHING)],
    ),
)
async def interpolate(request: Request) -> Response:
    """Go from digit to digit, through the latents between those of several seeds. The answer never changes."""
    query, timeout, gan = read_query(request, InterpolateQuery), read_timeout(request), engine(request)
    if query.digit is not None:
        _require_companions(gan, "digit")
    headers = _immutable(query, gan)
    if answers.matches(request.headers.getlist("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    job = InterpolateJob(tuple(query.seeds), query.frames, query.loop, query.truncation, query.digit, threading.Event())
    return await answers.animation(await gan.submit(job, timeout), query, headers)


@router.post(
    "/invert",
    **operation(
        Inversions,
        description="one latent for each image, with the image that it gives",
        body=uploads.media_types(InvertRequest, **Options.model_json_schema()["properties"]),
        errors=(*READ, *COMPUTED),
    ),
)
async def invert(request: Request) -> Response:
    """Find the latents whose images are nearest to these. PNG uploads or arrays of levels."""
    images, options = await uploads.read_inversion(request)
    gan, results = engine(request), []
    for image in images:  # one after the other, so that requests take turns
        job = InvertJob(image[None], options.prior_weight, threading.Event())
        results.append(await gan.submit(job, read_timeout(request)))
    found = [inversion for result in results for inversion in result.inversions or ()]
    return answer(
        {
            "latents": [inversion.latent.numpy() for inversion in found],
            "reconstructions": np.concatenate([result.images for result in results]),
            "residual": [inversion.residual for inversion in found],
            "iterations": [inversion.iterations for inversion in found],
            "converged": [inversion.converged for inversion in found],
        }
    )


@router.post(
    "/discriminate",
    **operation(
        Judgement,
        description="one probability for each image, and which digit it shows",
        body=uploads.media_types(DiscriminateRequest),
        errors=(*READ, *COMPUTED),
    ),
)
async def discriminate(request: Request) -> Response:
    """How real do these images look to the discriminator? PNG uploads or arrays of levels."""
    images, timeout = await uploads.read_images(request), read_timeout(request)
    result = await engine(request).submit(DiscriminateJob(images), timeout)
    return answer({"probability": result.probability, **answers.classes(result)})


def draw_seed() -> int:
    """A seed that nobody knows beforehand."""
    # JavaScript reads integers exactly up to 2**53; a seed that was drawn for a browser has to survive it.
    return secrets.randbelow(min(MAX_SEED, 2**53))


def _job(drawing: Drawing, seed: int, *, score: bool) -> GenerateJob:
    return GenerateJob(
        drawing.number,
        seed,
        score=score,
        truncation=drawing.truncation,
        digits=drawing.wanted,
        rejection=drawing.sampler == "rejection",
        abandoned=threading.Event(),
    )


def _check(drawing: Drawing, gan: GanEngine) -> None:
    answers.check_picture(drawing)
    if not gan.has_companions:
        for name in ("digit", "digits"):
            if getattr(drawing, name) is not None:
                _require_companions(gan, name)
        if drawing.sampler == "rejection":
            _require_companions(gan, "sampler", ["plain"])


def _require_companions(gan: GanEngine, name: str, allowed: object = "leave it out") -> None:
    if not gan.has_companions:
        raise InvalidInput(
            f"this checkpoint has no companions, and {name} needs them; "
            "the operator makes them with python -m training companions",
            pointer=f"/{name}",
            allowed=allowed,
        )


def _immutable(query: BaseModel, gan: GanEngine) -> dict[str, str]:
    return {"Cache-Control": IMMUTABLE, "ETag": answers.etag(gan.build, query)}
