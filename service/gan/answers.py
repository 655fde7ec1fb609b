"""Answers of the GAN's endpoints: their JSON schemas, and pictures, arrays and animations with their headers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from ..errors import InvalidInput
from ..formats.images import animate, shape_of_grid
from ..version import VERSION
from ..web.json_response import json_response
from ..web.threads import on_thread
from .choosing import Choice
from .encoding import Encoding, encode
from .fields import AnimationFormat, Format
from .jobs import Result
from .networks import IMAGE_SIZE, LATENT_DIM
from .packing import Float32
from .schemas import Drawing, InterpolateQuery

# Up to this size the worker encodes a picture with its batch, in about a tenth of a millisecond. Larger ones and WebP
# are encoded on a thread.
BATCHED_PIXELS = 256 * 256
# Images whose numbers a header lists: servers and proxies bound the length of headers. JSON lists all of them.
MAX_HEADER_SCORES = 64
# The largest side of a WebP picture, in pixels.
WEBP_SIDE = 16383

MEDIA_TYPES: dict[Format, str] = {
    "png": "image/png",
    "webp": "image/webp",
    "npy": "application/x-npy",
    "json": "application/json",
}
ANIMATION_TYPES: dict[AnimationFormat, str] = {"gif": "image/gif", "webp": "image/webp", "apng": "image/apng"}

# Descriptions of the headers, for the OpenAPI document.
SEED = {"X-Seed": "the seed of the request, or the random one that was used"}
SCORES = {
    "X-Probability": f"probability of being a real digit, for the first {MAX_HEADER_SCORES} images, separated by "
    "commas; only if images were judged",
    "X-Digit": "the most likely digit of each; only if the checkpoint has companions",
    "X-Class-Probability": "the probability of that digit, for each",
}
CHOICES = {
    "X-Attempts": f"latents examined for each of the first {MAX_HEADER_SCORES} images, up to the chosen one; only if "
    "latents were chosen",
    "X-Accepted": "true or false for each; false if no latent passed, and the image is the best of those examined",
    "X-Accepted-Count": "number of accepted images, of all",
}

CLASS_PROBABILITIES = "n x 10, the probability of each digit; null if the checkpoint has no companions"
DIGIT = "the most likely digit of each image, the smaller one on a tie; null if the checkpoint has no companions"
WARNINGS = "what may make the answer meaningless: images that are dark on light, with the cure"


class Images(BaseModel):
    """Generated images, their latents and their scores."""

    model_config = ConfigDict(extra="forbid")

    count: int
    seed: int | None = Field(description="null if the request gave latents")
    images: list[Any] = Field(description="n x 32 x 32 levels, 0 is black; /gan/discriminate accepts them")
    latents: list[list[float]] = Field(description=f"n x {LATENT_DIM}; /gan/generate draws the same images from them")
    probability: list[float] = Field(description="the discriminator's probability that each image is a real digit")
    class_probabilities: list[list[float]] | None = Field(description=CLASS_PROBABILITIES)
    digit: list[int] | None = Field(description=DIGIT)
    accepted: list[bool] = Field(
        description="whether the latent passed; false: none did, and this is the best of those examined"
    )
    attempts: list[int] = Field(description="latents examined for each image, up to the chosen one")


class Judgement(BaseModel):
    """Scores of uploaded images."""

    model_config = ConfigDict(extra="forbid")

    probability: list[float] = Field(description="the discriminator's probability that each image is a real digit")
    class_probabilities: list[list[float]] | None = Field(description=CLASS_PROBABILITIES)
    digit: list[int] | None = Field(description=DIGIT)
    warnings: list[str] = Field(description=WARNINGS)


class Inversions(BaseModel):
    """The latents whose images are nearest to the uploaded ones."""

    model_config = ConfigDict(extra="forbid")

    latents: list[list[float]] = Field(description=f"n x {LATENT_DIM}; /gan/generate accepts them")
    reconstructions: list[Any] = Field(description="n x 32 x 32 levels: the images of these latents")
    residual: list[float] = Field(description="root mean square of the difference, in grey levels")
    iterations: list[int] = Field(description="optimization steps, summed over all starts")
    converged: list[bool] = Field(description="whether the last step changed the objective by less than the tolerance")
    warnings: list[str] = Field(description=WARNINGS)


class Source(NamedTuple):
    """The origin of images: the seed, or None for given latents, and the sha256 of the generator."""

    seed: int | None
    checkpoint: str


def check_picture(drawing: Drawing) -> None:
    """Check that the format of `drawing` supports the size of its picture.

    Raises:
        InvalidInput: a side of the picture is longer than WebP allows.
    """
    if drawing.format != "webp":
        return
    side = IMAGE_SIZE * drawing.scale * max(shape_of_grid(drawing.image_count, drawing.grid_columns))
    if side > WEBP_SIDE:
        raise InvalidInput(
            f"the picture has a side of {side} pixels, and WebP allows at most {WEBP_SIDE}; "
            "use png, a smaller scale, or another number of columns",
            pointer="/format",
            allowed=["png"],
        )


def batched_encoding(drawing: Drawing) -> Encoding | None:
    """How the worker encodes the images of `drawing` with its batch; None if they are encoded afterwards."""
    small = drawing.image_count * (IMAGE_SIZE * drawing.scale) ** 2 <= BATCHED_PIXELS
    # The texts of a scored PNG are known after the batch only.
    if drawing.format == "npy" or (drawing.format == "png" and small and not drawing.scores):
        return _encoding(drawing)
    return None


async def images(result: Result, drawing: Drawing, source: Source, headers: dict[str, str]) -> Response:
    """The images (n, 32, 32) of `result` in the format of `drawing`, with any scores and choices in the headers."""
    if drawing.format == "json":
        response = json_response(_content(result, source))
        response.headers.update(headers)
        return response
    if result.probability is not None:
        headers |= _score_headers(result.probability, result.class_probabilities)
    headers |= _choice_headers(result)
    content = result.content
    if content is None:
        text = _text_chunks(drawing, source, headers) if drawing.scores and drawing.format == "png" else None
        content = await on_thread(encode, result.images, _encoding(drawing), text)
    return Response(content, headers=headers, media_type=MEDIA_TYPES[drawing.format])


async def animation(result: Result, query: InterpolateQuery, headers: dict[str, str]) -> Response:
    """The images (n, 32, 32) of `result` as one animation, with any choices of its key images in the headers."""
    content = await on_thread(animate, result.images, query.format, query.fps, query.scale)
    return Response(content, headers=headers | _choice_headers(result), media_type=ANIMATION_TYPES[query.format])


def classes(result: Result) -> dict[str, object]:
    """The JSON fields with the class probabilities (n, 10) and digits (n,) of `result`; null without companions.

    The digit is the first maximum of the probabilities: on a tie, the smaller digit.
    """
    by_class = result.class_probabilities
    return {"class_probabilities": by_class, "digit": None if by_class is None else by_class.argmax(1)}


def _content(result: Result, source: Source) -> dict[str, object]:
    count = len(result.images)
    choices: Sequence[Choice | None] = result.choices or [None] * count
    return {
        "count": count,
        "seed": source.seed,
        "images": result.images,
        "latents": result.latents,
        "probability": result.probability,
        **classes(result),
        "accepted": [choice is None or choice.accepted for choice in choices],
        "attempts": [1 if choice is None else choice.attempts for choice in choices],
    }


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


def _text_chunks(drawing: Drawing, source: Source, headers: dict[str, str]) -> dict[str, str]:
    """The text chunks of a PNG: the parameters that reproduce it, and the scores. Given latents are not stored."""
    texts = {"Software": f"Latentserve {VERSION}", "checkpoint": source.checkpoint}
    if source.seed is not None:
        parameters: dict[str, object] = {"seed": source.seed, "sampler": drawing.sampler, "digits": drawing.digits}
        parameters |= {"count": drawing.image_count if drawing.digits is None else None, "digit": drawing.digit}
        parameters |= {"truncation": drawing.truncation, "columns": drawing.grid_columns, "scale": drawing.scale}
        texts |= {name: str(value) for name, value in parameters.items() if value is not None}
    names = {"X-Probability": "probability", "X-Digit": "class", "X-Class-Probability": "class_probability"}
    names |= {"X-Attempts": "attempts", "X-Accepted": "accepted", "X-Accepted-Count": "accepted_count"}
    return texts | {names[name]: value for name, value in headers.items() if name in names}


def _list(values: Iterable[object]) -> str:
    return ",".join(str(value) for _, value in zip(range(MAX_HEADER_SCORES), values, strict=False))


def _encoding(drawing: Drawing) -> Encoding:
    if drawing.format == "json":
        raise ValueError("JSON has no encoding of its images alone")
    return Encoding(drawing.format, drawing.grid_columns, drawing.scale)
