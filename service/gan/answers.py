"""What the GAN's endpoints answer: pictures, arrays and animations, with the headers and texts that go with them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from anyio import to_thread
from fastapi import Response
from pydantic import BaseModel

from ..errors import InvalidInput
from ..formats.arrays import to_json, to_npy
from ..formats.images import UINT8, animate, encode, grid, shape_of_grid
from ..version import VERSION
from .choosing import Choice
from .fields import AnimationFormat, Format
from .jobs import Result
from .sampling import Float32
from .schemas import Drawing, InterpolateQuery
from .uploads import THREADS

# Pictures of more pixels than this are drawn on a thread; below it the hand-over costs more than the drawing.
DRAW_INLINE_PIXELS = 64 * 64
# Headers hold so many numbers at most: servers and proxies bound their length. JSON has them all.
MAX_HEADER_SCORES = 64
WEBP_SIDE = 16383

MEDIA_TYPES: dict[Format, str] = {
    "png": "image/png",
    "webp": "image/webp",
    "npy": "application/x-npy",
    "json": "application/json",
}
ANIMATION_TYPES: dict[AnimationFormat, str] = {"gif": "image/gif", "webp": "image/webp", "apng": "image/apng"}


# What the headers say, for the document.
CACHING = {
    "ETag": "names these bytes; strong. It is there where the request fixes them",
    "Cache-Control": "for ever where the request fixes the bytes, no-store where it does not",
}
SEED = {"X-Seed": "the seed that was asked for, or drawn"}
SCORES = {
    "X-Probability": f"of being a real digit, for each image (the first {MAX_HEADER_SCORES}), with commas between; "
    "where images are judged",
    "X-Digit": "the likeliest digit of each; where the checkpoint has companions",
    "X-Class-Probability": "the probability of that digit, for each",
}
CHOICES = {
    "X-Attempts": f"latents looked at for each image (the first {MAX_HEADER_SCORES}), up to the one taken; where "
    "latents are chosen",
    "X-Accepted": "true or false for each: false where no latent passed, and the image is the best of those looked at",
    "X-Accepted-Count": "how many of all images were accepted",
}


class Source(NamedTuple):
    """Where images come from: the seed, if there is one, and the sha256 of the generator."""

    seed: int | None
    checkpoint: str


def check_picture(drawing: Drawing) -> None:
    """Raise InvalidInput for a picture that its format cannot hold."""
    side = 32 * drawing.scale * max(shape_of_grid(drawing.number, drawing.in_a_row))
    if drawing.format == "webp" and side > WEBP_SIDE:
        raise InvalidInput(
            f"a side of {side} pixels is more than the {WEBP_SIDE} that WebP can hold; "
            "take png, a smaller scale, or another number of columns",
            pointer="/format",
            allowed=["png"],
        )


async def images(result: Result, drawing: Drawing, source: Source, headers: dict[str, str]) -> Response:
    """The images of `result` as `drawing` asks for them; scores, where there are any, go into the headers."""
    if drawing.format == "json":
        return Response(_json(result, source), headers=headers, media_type=MEDIA_TYPES["json"])
    if result.probability is not None:
        headers |= _score_headers(result.probability, result.class_probabilities)
    headers |= _choice_headers(result)
    if drawing.format == "npy":
        content = to_npy(result.images)
    else:
        text = _texts(drawing, source, headers) if drawing.scores else None
        small = result.images.size * drawing.scale**2 <= DRAW_INLINE_PIXELS
        content = (
            _draw(result.images, drawing, text)
            if small
            else await to_thread.run_sync(_draw, result.images, drawing, text, limiter=THREADS)
        )
    return Response(content, headers=headers, media_type=MEDIA_TYPES[drawing.format])


async def animation(result: Result, query: InterpolateQuery, headers: dict[str, str]) -> Response:
    """The images of `result` as the frames of one animation; how its key images were chosen goes into the headers."""
    content = await to_thread.run_sync(animate, result.images, query.format, query.fps, query.scale, limiter=THREADS)
    return Response(content, headers=headers | _choice_headers(result), media_type=ANIMATION_TYPES[query.format])


def classes(result: Result) -> dict[str, object]:
    """The fields of JSON that say which digits `result` shows."""
    by_class = result.class_probabilities
    return {"class_probabilities": by_class, "digit": None if by_class is None else by_class.argmax(1)}


def etag(build: str, query: BaseModel) -> str:
    """The strong ETag of an answer, by what its bytes are computed from, so that a 304 costs no computation."""
    digest = hashlib.blake2b(f"{build} {query.model_dump_json()}".encode(), digest_size=16)
    return f'"{digest.hexdigest()}"'


def matches(if_none_match: Sequence[str], etag: str) -> bool:
    """RFC 9110, 13.1.2: weak comparison, and * for whatever there is; several lines are one list (5.3)."""
    names = [name.strip().removeprefix("W/") for line in if_none_match for name in line.split(",")]
    return etag in names or names == ["*"]


def _json(result: Result, source: Source) -> bytes:
    count = len(result.images)
    choices: Sequence[Choice | None] = result.choices or [None] * count
    return to_json(
        {
            "count": count,
            "seed": source.seed,
            "images": result.images,
            "latents": result.latents,
            "probability": result.probability,
            **classes(result),
            "accepted": [choice is None or choice.accepted for choice in choices],
            "attempts": [1 if choice is None else choice.attempts for choice in choices],
        }
    )


def _score_headers(probability: Float32, by_class: Float32 | None) -> dict[str, str]:
    headers = {"X-Probability": _list(f"{value:.6g}" for value in probability)}
    if by_class is not None:
        headers["X-Digit"] = _list(by_class.argmax(1))
        headers["X-Class-Probability"] = _list(f"{value:.6g}" for value in by_class.max(1))
    return headers


def _choice_headers(result: Result) -> dict[str, str]:
    if result.choices is None:
        return {}
    return {
        "X-Attempts": _list(choice.attempts for choice in result.choices),
        "X-Accepted": _list(str(choice.accepted).lower() for choice in result.choices),
        "X-Accepted-Count": str(sum(choice.accepted for choice in result.choices)),
    }


def _texts(drawing: Drawing, source: Source, headers: dict[str, str]) -> dict[str, str]:
    """What a PNG says of itself: what gives it again, and what the headers say. Latents given are not repeated."""
    texts = {"Software": f"Latentserve {VERSION}", "checkpoint": source.checkpoint}
    if source.seed is not None:
        asked: dict[str, object] = {"seed": source.seed, "sampler": drawing.sampler, "digits": drawing.digits}
        asked |= {"count": drawing.number if drawing.digits is None else None, "digit": drawing.digit}
        asked |= {"truncation": drawing.truncation, "columns": drawing.in_a_row, "scale": drawing.scale}
        texts |= {name: str(value) for name, value in asked.items() if value is not None}
    names = {"X-Probability": "probability", "X-Digit": "class", "X-Class-Probability": "class_probability"}
    names |= {"X-Attempts": "attempts", "X-Accepted": "accepted", "X-Accepted-Count": "accepted_count"}
    return texts | {names[name]: value for name, value in headers.items() if name in names}


def _list(values: Iterable[object]) -> str:
    return ",".join(str(value) for _, value in zip(range(MAX_HEADER_SCORES), values, strict=False))


def _draw(images: UINT8, drawing: Drawing, text: dict[str, str] | None) -> bytes:
    return encode(grid(images, drawing.in_a_row, drawing.scale), drawing.format, text)
