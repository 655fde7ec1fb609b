"""The GAN's endpoints: read the request, submit a job, encode the result."""

from __future__ import annotations

import threading
from collections.abc import Coroutine, Mapping
from typing import Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Request, Response

from ..errors import InvalidInput
from ..runtime.batching import Batcher
from ..web.json_body import read_json
from ..web.media import header_values
from ..web.parts import part
from ..web.routing import (
    COMPUTED,
    READ,
    Status,
    StrictRoute,
    answer,
    operation,
    read_query,
    read_timeout,
)
from ..web.seeds import random_seed
from . import answers, caching, uploads
from .answers import Images, Inversions, Judgement
from .caching import CACHING, CHECKPOINT, NO_STORE
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
from .polarity import polarity_warnings, uniform_warnings
from .schemas import Drawing, GenerateQuery, GenerateRequest, InterpolateQuery
from .uploads import BINARY, DiscriminateRequest, InvertRequest, Options


class GanEngine(NamedTuple):
    """The batchers of the GAN, and the properties of the checkpoint that answers depend on."""

    lanes: Mapping[Lane, Batcher[Job, Result]]
    build: str
    """See `caching.build_tag`."""
    checkpoint: str
    """sha256 of the generator."""
    has_companions: bool

    def submit(self, job: Job, timeout: float | None) -> Coroutine[Any, Any, Result]:
        """The result of `job`, from the batcher of its lane; see `Batcher.submit` for `timeout` and errors."""
        return self.lanes[lane(job)].submit(job, timeout)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every answer."""
        return {"X-Checkpoint": self.checkpoint}


def engine(request: Request) -> GanEngine:
    """The application's GAN engine."""
    return part(request, GanEngine)


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


def not_modified(sent: Mapping[str, str]) -> Status:
    """The OpenAPI entry of a 304 with the headers `sent`."""
    return Status(304, "the answer still has the ETag that If-None-Match names", sent)


@router.get(
    "/generate",
    **operation(
        PICTURES,
        description="one picture, a grid of pictures, or the levels of each image",
        query=GenerateQuery,
        errors=(404, *COMPUTED),
        headers=[IF_NONE_MATCH],
        sent=CHECKPOINT | CACHING | answers.SEED | answers.SCORES | answers.CHOICES,
        statuses=[not_modified(CHECKPOINT | CACHING | answers.SEED)],
    ),
)
async def generate(request: Request) -> Response:
    """Draw digits from a seed. Without a seed, a random one is used and returned in X-Seed."""
    query, timeout, gan = read_query(request, GenerateQuery), read_timeout(request), engine(request)
    _check_drawing(query, gan)
    seed = random_seed() if query.seed is None else query.seed
    caches = {"Cache-Control": NO_STORE} if query.seed is None else caching.headers(query, gan.build)
    headers = {**gan.headers, "X-Seed": str(seed), **caches}
    if _is_fresh(request, headers):
        return Response(status_code=304, headers=headers)
    job = _generate_job(query, seed, score=query.scores or query.format == "json")
    return await answers.images(await gan.submit(job, timeout), query, answers.Source(seed, gan.checkpoint), headers)


@router.post(
    "/generate",
    **operation(
        PICTURES,
        description="the images, with their scores in JSON or in headers",
        body=GenerateRequest,
        errors=(404, *READ, *COMPUTED),
        sent=CHECKPOINT | {"Cache-Control": NO_STORE} | answers.SEED | answers.SCORES | answers.CHOICES,
    ),
)
async def generate_from(request: Request) -> Response:
    """Draw digits from given latents or from a seed, and judge them."""
    body, timeout, gan = await read_json(request, GenerateRequest), read_timeout(request), engine(request)
    _check_drawing(body, gan)
    seed = body.seed
    if body.latents is not None:
        latents = body.latents.astype(np.float32)
        job = GenerateJob(len(latents), latents=latents, score=True, encoding=answers.batched_encoding(body))
    else:
        seed = random_seed() if seed is None else seed
        job = _generate_job(body, seed, score=True)
    headers = gan.headers | {"Cache-Control": NO_STORE} | ({} if seed is None else {"X-Seed": str(seed)})
    return await answers.images(await gan.submit(job, timeout), body, answers.Source(seed, gan.checkpoint), headers)


@router.get(
    "/interpolate",
    **operation(
        ANIMATIONS,
        description="an animation that repeats endlessly",
        query=InterpolateQuery,
        errors=(404, *COMPUTED),
        headers=[IF_NONE_MATCH],
        sent=CHECKPOINT | CACHING | answers.CHOICES,
        statuses=[not_modified(CHECKPOINT | CACHING)],
    ),
)
async def interpolate(request: Request) -> Response:
    """Animate the path through the latents of several seeds."""
    query, timeout, gan = read_query(request, InterpolateQuery), read_timeout(request), engine(request)
    caching.check_checkpoint(query.checkpoint, gan.checkpoint)
    if query.digit is not None:
        _require_companions(gan, "digit")
    headers = gan.headers | caching.headers(query, gan.build)
    if _is_fresh(request, headers):
        return Response(status_code=304, headers=headers)
    abandoned = None if query.digit is None else threading.Event()
    job = InterpolateJob(tuple(query.seeds), query.frames, query.loop, query.truncation, query.digit, abandoned)
    return await answers.animation(await gan.submit(job, timeout), query, headers)


@router.post(
    "/invert",
    **operation(
        Inversions,
        description="one latent for each image, and the image that the generator draws from it",
        body=uploads.media_types(InvertRequest, **Options.model_json_schema()["properties"]),
        errors=(*READ, *COMPUTED),
        sent=CHECKPOINT,
    ),
)
async def invert(request: Request) -> Response:
    """Find the latents whose images are nearest to the uploaded pictures or arrays of levels."""
    images, options = await uploads.read_inversion(request)
    gan, results = engine(request), []
    for image in images:  # one job per image, so that concurrent requests take turns
        job = InvertJob(image[None], options.prior_weight, threading.Event())
        results.append(await gan.submit(job, read_timeout(request)))
    found = [inversion for result in results for inversion in result.inversions or ()]
    content = {
        "latents": [inversion.latent.numpy() for inversion in found],
        "reconstructions": np.concatenate([result.images for result in results]),
        "residual": [inversion.residual for inversion in found],
        "iterations": [inversion.iterations for inversion in found],
        "converged": [inversion.converged for inversion in found],
        "warnings": [*polarity_warnings(images), *uniform_warnings(images)],
    }
    return _with_checkpoint(answer(content), gan)


@router.post(
    "/discriminate",
    **operation(
        Judgement,
        description="for each image, the probability of being a real digit, and which digit it shows",
        body=uploads.media_types(DiscriminateRequest),
        errors=(*READ, *COMPUTED),
        sent=CHECKPOINT,
    ),
)
async def discriminate(request: Request) -> Response:
    """Judge the uploaded pictures or arrays of levels: how real are they, and which digits do they show?"""
    images, timeout, gan = await uploads.read_images(request), read_timeout(request), engine(request)
    result = await gan.submit(DiscriminateJob(images), timeout)
    content = {
        "probability": result.probability,
        **answers.classes(result),
        "warnings": [*polarity_warnings(images), *uniform_warnings(images)],
    }
    return _with_checkpoint(answer(content), gan)


def _generate_job(drawing: Drawing, seed: int, *, score: bool) -> GenerateJob:
    digits, rejection = drawing.requested_digits, drawing.sampler == "rejection"
    is_chosen = digits is not None or rejection
    return GenerateJob(
        drawing.image_count,
        seed,
        score=score,
        truncation=drawing.truncation,
        digits=digits,
        rejection=rejection,
        abandoned=threading.Event() if is_chosen else None,
        encoding=answers.batched_encoding(drawing),
    )


def _check_drawing(drawing: Drawing, gan: GanEngine) -> None:
    caching.check_checkpoint(drawing.checkpoint, gan.checkpoint)
    answers.check_picture(drawing)
    for name in ("digit", "digits"):
        if getattr(drawing, name) is not None:
            _require_companions(gan, name)
    if drawing.sampler == "rejection":
        _require_companions(gan, "sampler", ["plain"])


def _require_companions(gan: GanEngine, name: str, allowed: object = "leave it out") -> None:
    if not gan.has_companions:
        raise InvalidInput(
            f"{name} needs companions, but this checkpoint has none; "
            "the operator can make them with python -m training companions",
            pointer=f"/{name}",
            allowed=allowed,
        )


def _is_fresh(request: Request, headers: Mapping[str, str]) -> bool:
    """Whether the client already has the answer with these headers."""
    etag = headers.get("ETag")
    return etag is not None and caching.is_fresh(header_values(request, b"if-none-match"), etag)


def _with_checkpoint(response: Response, gan: GanEngine) -> Response:
    response.headers.update(gan.headers)
    return response
