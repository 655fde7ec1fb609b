"""Uploaded images: their schemas, and how they are read from JSON, from one picture, or from a form of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ..errors import BodyTooLarge, InvalidInput, UnsupportedMediaType
from ..formats.arrays import Rank
from ..formats.images import UINT8, decode
from ..formats.json_numbers.reading import LARGE_BYTES
from ..web.body import read_body
from ..web.forms import read_parts
from ..web.json_body import read_json
from ..web.media import is_json, media_type
from ..web.routing import read_fields
from ..web.threads import on_thread
from .schemas import MAX_COUNT

MAX_UPLOAD_PIXELS = 64 * 64
MAX_INVERSIONS = 16
SIZES = {(28, 28), (32, 32)}
SIZES_TEXT = ["32 x 32", "28 x 28"]
# Media types that the service returns but does not read.
ANIMATED = {"image/gif", "image/apng"}

GreyImages = Annotated[NDArray[np.uint8], Rank((2, 3), integer=True, ge=0, le=255)]

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


class DiscriminateRequest(BaseModel):
    """Images to judge: light digits on black, as levels 0 (black) to 255 (white)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    images: GreyImages = Field(description="n x 32 x 32 or n x 28 x 28; or one image, without the n")
    """(n, 32, 32), (n, 28, 28), (32, 32) or (28, 28)"""

    @model_validator(mode="after")
    def _images_have_a_known_size(self) -> Self:
        check_size(self.images)
        return self


class Options(BaseModel):
    """Options of an inversion."""

    model_config = ConfigDict(extra="forbid")

    prior_weight: float = Field(
        1.0,
        ge=0,
        le=1e6,
        allow_inf_nan=False,
        description="w in ‖x - G(z)‖² + w‖z‖², in squared grey levels: the variance of the noise assumed in x",
    )


class InvertRequest(Options):
    """Images to invert: light digits on black, as levels 0 (black) to 255 (white)."""

    model_config = ConfigDict(strict=True)

    images: GreyImages = Field(
        description=f"n x 32 x 32 or n x 28 x 28, n at most {MAX_INVERSIONS}; or one image, without the n"
    )

    @model_validator(mode="after")
    def _images_have_a_known_size(self) -> Self:
        check_size(self.images, MAX_INVERSIONS)
        return self


class Upload(NamedTuple):
    """Contents of a form."""

    images: UINT8
    """(n, H, W)"""
    fields: dict[str, str]


def media_types(model: type[BaseModel], **fields: dict[str, Any]) -> dict[str, Any]:
    """The request body of an endpoint that takes images, for the OpenAPI document.

    Args:
        model: schema of the JSON body.
        fields: schemas of the form's fields besides `images`.
    """
    images = {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
    form = {
        "type": "object",
        "required": ["images"],
        "additionalProperties": False,
        "properties": {"images": images, **fields},
    }
    return {
        "application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}},
        "image/png": BINARY,
        "image/webp": BINARY,
        "multipart/form-data": {"schema": form},
    }


async def read_images(request: Request) -> UINT8:
    """The images to judge, (n, 28, 28) or (n, 32, 32).

    Raises:
        InvalidInput: a picture cannot be read, has another size, or the form has an unknown field.
        UnsupportedMediaType: the body is neither JSON nor a picture nor a form.
        RequestValidationError: the JSON does not match the schema.
    """
    if is_json(media_type(request)):
        images = (await read_json(request, DiscriminateRequest)).images
        return images if images.ndim == 3 else images[None]
    return (await _read_pictures(request, MAX_COUNT, ())).images


async def read_inversion(request: Request) -> tuple[UINT8, Options]:
    """The images to invert, (n, 28, 28) or (n, 32, 32), and the options. Raises what `read_images` raises."""
    if is_json(media_type(request)):
        body = await read_json(request, InvertRequest)
        return body.images if body.images.ndim == 3 else body.images[None], body
    upload = await _read_pictures(request, MAX_INVERSIONS, tuple(Options.model_fields))
    return upload.images, read_fields(upload.fields, Options)


def check_size(images: NDArray[np.uint8], most: int = MAX_COUNT) -> None:
    """Check the shape of `images`, (H, W) or (n, H, W).

    Raises:
        PydanticCustomError: H x W is neither 28 x 28 nor 32 x 32, or n is larger than `most`.
    """
    if images.shape[-2:] not in SIZES:
        raise PydanticCustomError(
            "image_size",
            "images are {height} x {width}; the networks need 32 x 32, or 28 x 28 as in MNIST",
            {
                "height": images.shape[-2],
                "width": images.shape[-1],
                "allowed": SIZES_TEXT,
                "field": "images",
            },
        )
    if images.ndim == 3 and len(images) > most:
        raise PydanticCustomError(
            "too_many_images",
            "{count} images are too many for one request",
            {"count": len(images), "allowed": f"at most {most}", "field": "images"},
        )


async def _read_pictures(request: Request, most: int, fields: tuple[str, ...]) -> Upload:
    kind = media_type(request)
    texts: dict[str, str] = {}
    files: Sequence[bytes | bytearray]
    if kind == "multipart/form-data":
        files, texts = await _read_form(request, most, fields)
    elif kind in {"image/png", "image/webp"}:
        files = [await read_body(request)]
    else:
        cure = "; send each frame as a separate picture" if kind in ANIMATED else ""
        declared = f"the media type {kind} is not supported" if kind else "the request declares no media type"
        raise UnsupportedMediaType(
            declared + cure,
            allowed=["application/json", "image/png", "image/webp", "multipart/form-data"],
        )
    return Upload(await on_thread(_decode, files), texts)


def _decode(files: Sequence[bytes | bytearray]) -> UINT8:
    pictures = [decode(data, MAX_UPLOAD_PIXELS, f"/images/{index}", SIZES_TEXT) for index, data in enumerate(files)]
    for index, picture in enumerate(pictures):
        try:
            check_size(picture)
        except PydanticCustomError as error:
            context = error.context or {}
            raise InvalidInput(error.message(), pointer=f"/images/{index}", allowed=context.get("allowed")) from None
    if len({picture.shape for picture in pictures}) > 1:
        raise InvalidInput(
            "the pictures have different sizes; send pictures of one size per request",
            pointer="/images",
            allowed=["all 32 x 32", "all 28 x 28"],
        )
    return np.stack(pictures)


async def _read_form(request: Request, most: int, fields: tuple[str, ...]) -> tuple[list[bytes], dict[str, str]]:
    parts = await read_parts(request, MAX_COUNT)
    known = ["images", *fields]
    if unknown := [part.name for part in parts if part.name not in known]:
        raise InvalidInput(f"unknown field {unknown[0]!r}", pointer=f"/{unknown[0]}", allowed=known)
    pictures = [part for part in parts if part.name == "images"]
    if any(part.filename is None for part in pictures):
        raise InvalidInput(
            "images contains text; send each picture as a file, with a filename", pointer="/images", allowed="files"
        )
    if not pictures:
        raise InvalidInput("the form contains no pictures", pointer="/images", allowed="one or more files")
    if len(pictures) > most:
        raise InvalidInput(
            f"{len(pictures)} images are too many for one request", pointer="/images", allowed=f"at most {most}"
        )
    texts: dict[str, str] = {}
    for part in parts:
        if part.name == "images":
            continue
        if part.filename is not None:
            raise InvalidInput(f"field {part.name!r} is a file", pointer=f"/{part.name}", allowed="text")
        if part.name in texts:
            raise InvalidInput(f"field {part.name!r} is given twice", pointer=f"/{part.name}", allowed="one value")
        if len(part.content) > LARGE_BYTES:  # to decode and to validate it would take the event loop long
            raise BodyTooLarge(
                f"the text has {len(part.content)} bytes",
                pointer=f"/{part.name}",
                allowed=f"at most {LARGE_BYTES} bytes",
            )
        texts[part.name] = part.content.decode(errors="replace")
    return [part.content for part in pictures], texts
