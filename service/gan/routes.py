"""The GAN's endpoints: validate, await, encode."""

from __future__ import annotations

import hashlib
import os
import secrets
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import PIL
import scipy
import torch
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Request, Response
from pydantic_core import PydanticCustomError

from service.arrays import to_json, to_npy
from service.batching import Batcher
from service.errors import InvalidInput, UnsupportedMediaType
from service.forms import read_parts
from service.gan.schemas import (
    MAX_COUNT,
    MAX_SEED,
    DiscriminateRequest,
    Format,
    GenerateQuery,
    GenerateRequest,
    Images,
    Judgement,
    Picture,
    check_size,
)
from service.gan.worker import DiscriminateJob, GenerateJob, Job, Result
from service.images import UINT8, decode, encode, grid, shape_of_grid
from service.routing import (
    COMPUTED,
    READ,
    StrictRoute,
    answer,
    media_type,
    operation,
    read_json,
    read_query,
    read_timeout,
)

# Pictures of more pixels than this are drawn on a thread; below it the hand-over costs more than the drawing.
DRAW_INLINE_PIXELS = 64 * 64
# As many threads as there are cores to run them: more would only pile up sheets in memory.
THREADS = CapacityLimiter(os.cpu_count() or 1)
# X-Probability holds so many scores at most: servers and proxies bound the length of headers. JSON has them all.
MAX_HEADER_SCORES = 64
MAX_UPLOAD_PIXELS = 64 * 64
WEBP_SIDE = 16383


class GanEngine(NamedTuple):
    """What the endpoints need: the way to the worker, and what answers depend on besides the request."""

    batcher: Batcher[Job, Result]
    build: str


def build_tag(digests: Mapping[str, str], version: str, processor: str) -> str:
    """Everything but the request that a picture's bytes, and its scores, depend on; `digests` are the checkpoint's."""
    libraries = torch.__version__, np.__version__, scipy.__version__, PIL.__version__, zlib.ZLIB_RUNTIME_VERSION
    return " ".join([*(digests[name] for name in sorted(digests)), version, *libraries, processor])


def engine(request: Request) -> GanEngine:
    """The engine that the application was wired with."""
    found: GanEngine = request.app.state.gan
    return found


router = APIRouter(prefix="/gan", tags=["gan"], route_class=StrictRoute)
MODELS = (GenerateRequest, Images, DiscriminateRequest, Judgement)

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
PICTURES: dict[str, Any] = {
    "image/png": BINARY,
    "image/webp": BINARY,
    "application/x-npy": BINARY,
    "application/json": {"schema": {"$ref": "#/components/schemas/Images"}},
}
MEDIA_TYPES: dict[Format, str] = {
    "png": "image/png",
    "webp": "image/webp",
    "npy": "application/x-npy",
    "json": "application/json",
}


UPLOADS: dict[str, Any] = {
    "application/json": {"schema": {"$ref": "#/components/schemas/DiscriminateRequest"}},
    "image/png": BINARY,
    "image/webp": BINARY,
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["images"],
            "additionalProperties": False,
            "properties": {
                "images": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}},
            },
        }
    },
}
IF_NONE_MATCH = {"name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"}}


@router.get(
    "/generate",
    **operation(
        PICTURES,
        description="one picture, a grid of them, or the images themselves",
        query=GenerateQuery,
        errors=COMPUTED,
        headers=[IF_NONE_MATCH],
        statuses={304: "what If-None-Match names is still what this request gives"},
    ),
)
async def generate(request: Request) -> Response:
    """Draw digits. With a seed the answer never changes and may be cached for ever; without, one is drawn."""
    query, timeout, gan = read_query(request, GenerateQuery), read_timeout(request), engine(request)
    _check_picture(query, query.count)
    seed = query.seed
    headers = {"Cache-Control": "no-store"}
    if seed is None:
        seed = draw_seed()
    else:
        etag = _etag(gan.build, query)
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "ETag": etag}
        if _matches(request.headers.get("if-none-match", ""), etag):
            return Response(status_code=304, headers=headers)
    headers["X-Seed"] = str(seed)
    job = GenerateJob(query.count, seed, score=query.format == "json")
    return await _answer(await gan.batcher.submit(job, timeout), query, seed, headers)


@router.post(
    "/generate",
    **operation(
        PICTURES,
        description="the images, with their scores in the JSON or in X-Probability",
        body=GenerateRequest,
        errors=(*READ, *COMPUTED),
    ),
)
async def generate_from(request: Request) -> Response:
    """Draw digits from latents of your own, or from a seed, and let the discriminator judge them."""
    body, timeout = await read_json(request, GenerateRequest), read_timeout(request)
    count, seed = body.count or 1, body.seed
    if body.latents is not None:
        job = GenerateJob(len(body.latents), latents=body.latents.astype(np.float32), score=True)
    else:
        seed = draw_seed() if seed is None else seed
        job = GenerateJob(count, seed, score=True)
    _check_picture(body, job.images)
    headers = {"Cache-Control": "no-store"} | ({} if seed is None else {"X-Seed": str(seed)})
    return await _answer(await engine(request).batcher.submit(job, timeout), body, seed, headers)


@router.post(
    "/discriminate",
    **operation(Judgement, description="one probability for each image", body=UPLOADS, errors=(*READ, *COMPUTED)),
)
async def discriminate(request: Request) -> Response:
    """How real do these images look to the discriminator? PNG uploads or arrays of levels."""
    images, timeout = await _read_images(request), read_timeout(request)
    result = await engine(request).batcher.submit(DiscriminateJob(images), timeout)
    return answer({"probability": result.probability})


def draw_seed() -> int:
    """A seed that nobody knows beforehand."""
    # JavaScript reads integers exactly up to 2**53; a seed that was drawn for a browser has to survive it.
    return secrets.randbelow(min(MAX_SEED, 2**53))


async def _read_images(request: Request) -> UINT8:
    kind = media_type(request)
    if kind == "application/json":
        images = (await read_json(request, DiscriminateRequest)).images
        return images if images.ndim == 3 else images[None]
    if kind == "multipart/form-data":
        files = await _read_form(request)
    elif kind in {"image/png", "image/webp"}:
        files = [await request.body()]
    else:
        raise UnsupportedMediaType(
            f"images came as {kind or 'nothing declared'}",
            allowed=["application/json", "image/png", "image/webp", "multipart/form-data"],
        )
    return await to_thread.run_sync(_decode, files, limiter=THREADS)


def _decode(files: list[bytes]) -> UINT8:
    pictures = [decode(data, MAX_UPLOAD_PIXELS, f"/images/{index}") for index, data in enumerate(files)]
    for index, picture in enumerate(pictures):
        try:
            check_size(picture)
        except PydanticCustomError as error:
            context = error.context or {}
            raise InvalidInput(error.message(), pointer=f"/images/{index}", allowed=context.get("allowed")) from None
    if len({picture.shape for picture in pictures}) > 1:
        raise InvalidInput("the pictures differ in size; send one size at a time", pointer="/images")
    return np.stack(pictures)


async def _read_form(request: Request) -> list[bytes]:
    parts = await read_parts(request, MAX_COUNT)
    strange = [part.name for part in parts if part.name != "images"]
    if strange:
        raise InvalidInput(f"unknown field {strange[0]!r}", pointer=f"/{strange[0]}", allowed=["images"])
    files = [part.content for part in parts if part.filename is not None]
    if not files:
        raise InvalidInput("the form holds no pictures", pointer="/images", allowed="one or more files")
    return files


def _check_picture(picture: Picture, count: int) -> None:
    side = 32 * picture.scale * max(shape_of_grid(count, picture.columns))
    if picture.format == "webp" and side > WEBP_SIDE:
        raise InvalidInput(
            f"a side of {side} pixels is more than WebP can hold; take png, or a smaller scale or count",
            pointer="/format",
            allowed=["png"],
        )


async def _answer(result: Result, picture: Picture, seed: int | None, headers: dict[str, str]) -> Response:
    if result.probability is not None:
        headers["X-Probability"] = ",".join(f"{value:.6g}" for value in result.probability[:MAX_HEADER_SCORES])
    kind = picture.format
    if kind == "npy":
        content = to_npy(result.images)
    elif kind == "json":
        content = to_json(
            {
                "count": len(result.images),
                "seed": seed,
                "images": result.images,
                "latents": result.latents,
                "probability": result.probability,
            }
        )
    else:
        small = result.images.size * picture.scale**2 <= DRAW_INLINE_PIXELS
        content = (
            _draw(result.images, picture)
            if small
            else await to_thread.run_sync(_draw, result.images, picture, limiter=THREADS)
        )
    return Response(content, headers=headers, media_type=MEDIA_TYPES[kind])


def _draw(images: UINT8, picture: Picture) -> bytes:
    return encode(grid(images, picture.columns, picture.scale), picture.format)


def _etag(build: str, query: GenerateQuery) -> str:
    # Named by what the bytes are computed from, so that a 304 costs no computation.
    digest = hashlib.blake2b(f"{build} {query.model_dump_json()}".encode(), digest_size=16)
    return f'"{digest.hexdigest()}"'


def _matches(if_none_match: str, etag: str) -> bool:
    """RFC 9110, 13.1.2: weak comparison, and * for whatever there is."""
    names = [name.strip().removeprefix("W/") for name in if_none_match.split(",")]
    return etag in names or names == ["*"]
