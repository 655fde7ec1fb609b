"""The GAN's wire shapes and limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from service.arrays import Rank
from service.gan.networks import LATENT_DIM

MAX_COUNT = 1024
MAX_SCALE = 8
MAX_SEED = 2**63 - 1

Latents = Annotated[NDArray[np.float64], Rank((2,), ge=-1000, le=1000)]
GreyImages = Annotated[NDArray[np.uint8], Rank((2, 3), integer=True, ge=0, le=255)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Format = Literal["png", "webp", "json", "npy"]


class Picture(BaseModel):
    """How the images are laid out and encoded."""

    model_config = ConfigDict(extra="forbid")

    columns: int | None = Field(
        None, ge=1, le=MAX_COUNT, description="images in a row; without it the grid is as square as can be"
    )
    scale: int = Field(1, ge=1, le=MAX_SCALE, description="every pixel is drawn so many times each way")
    format: Format = Field("png", description="png and webp are one picture; json and npy are n x 32 x 32 levels")

    @model_validator(mode="after")
    def _layout_is_for_pictures(self) -> Self:
        if self.format in {"json", "npy"} and (self.columns is not None or self.scale != 1):
            raise PydanticCustomError(
                "layout_without_picture",
                "columns and scale lay out a picture, and format {format} is the images themselves; leave them out",
                {"format": self.format},
            )
        return self


class GenerateQuery(Picture):
    """What `GET /gan/generate` takes. The same seed always gives the same bytes."""

    count: int = Field(1, ge=1, le=MAX_COUNT, description="number of images; image i does not depend on it")
    seed: Seed | None = Field(None, description="without it one is drawn, and named in X-Seed")
    sampler: Literal["plain"] = Field("plain", description="how latents are chosen: plain is N(0, I)")


class GenerateRequest(Picture):
    """What `POST /gan/generate` takes: latents of your own, or the fields of the GET."""

    model_config = ConfigDict(strict=True)

    latents: Latents | None = Field(None, description=f"n x {LATENT_DIM}, one row an image")
    count: int | None = Field(None, ge=1, le=MAX_COUNT, description="number of images, 1 by default")
    seed: Seed | None = Field(None, description="without it one is drawn, and named in X-Seed")
    sampler: Literal["plain"] = Field("plain", description="how latents are chosen: plain is N(0, I)")

    @model_validator(mode="after")
    def _latents_have_the_right_shape(self) -> Self:
        if self.latents is None:
            return self
        rows, width = self.latents.shape
        if width != LATENT_DIM:
            raise PydanticCustomError(
                "latent_width",
                "latents have {width} numbers a row; the generator takes {allowed}",
                {"width": width, "allowed": LATENT_DIM, "field": "latents"},
            )
        if rows > MAX_COUNT:
            raise PydanticCustomError(
                "too_many_latents",
                "{rows} latents are too many for one request",
                {"rows": rows, "allowed": f"at most {MAX_COUNT} rows", "field": "latents"},
            )
        if self.seed is not None or self.count is not None:
            raise PydanticCustomError(
                "latents_and_seed", "latents say all; leave out seed and count", {"field": "latents"}
            )
        return self


class DiscriminateRequest(BaseModel):
    """Images to be judged, as levels 0 (black) to 255 (white)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    images: GreyImages = Field(description="n x 32 x 32 or n x 28 x 28, or one image without the n")

    @model_validator(mode="after")
    def _images_have_a_known_size(self) -> Self:
        check_size(self.images)
        return self


def check_size(images: NDArray[np.uint8]) -> None:
    """Raise for images that are neither 28 x 28 nor 32 x 32, or too many."""
    if images.shape[-2:] not in {(28, 28), (32, 32)}:
        raise PydanticCustomError(
            "image_size",
            "images are {height} x {width}; the discriminator takes 32 x 32, or MNIST's 28 x 28",
            {
                "height": images.shape[-2],
                "width": images.shape[-1],
                "allowed": ["32 x 32", "28 x 28"],
                "field": "images",
            },
        )
    if images.ndim == 3 and len(images) > MAX_COUNT:
        raise PydanticCustomError(
            "too_many_images",
            "{count} images are too many for one request",
            {"count": len(images), "allowed": f"at most {MAX_COUNT}", "field": "images"},
        )


class Images(BaseModel):
    """Generated images with what they were made of."""

    model_config = ConfigDict(extra="forbid")

    count: int
    seed: int | None = Field(description="null when latents were given")
    images: list[Any] = Field(description="n x 32 x 32 levels, 0 is black; POST them to /gan/discriminate as they are")
    latents: list[list[float]] = Field(description=f"n x {LATENT_DIM}; POST them to /gan/generate for the same images")
    probability: list[float] = Field(description="the discriminator's probability that image i is a real digit")


class Judgement(BaseModel):
    """The discriminator's answer."""

    model_config = ConfigDict(extra="forbid")

    probability: list[float] = Field(description="of being a real digit, one for each image")
