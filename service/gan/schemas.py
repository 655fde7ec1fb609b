"""The GAN's wire shapes and limits."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from .fields import (
    MAX_DIGITS,
    MAX_KEYS,
    AnimationFormat,
    Digit,
    DigitString,
    Flag,
    Format,
    Latents,
    Seed,
    Seeds,
    Truncation,
)
from .networks import LATENT_DIM

MAX_COUNT = 1024
MAX_SCALE = 8
MAX_SECONDS = 600
MAX_FRAMES_AT_SCALE = 16384
TRUNCATION = (
    "latents are scaled by it, towards the image at the origin: down to 0.7 images stay clear and grow less various; "
    "below about 0.5 they become blends of digits, less and less like any, and below 0.3 they are alike"
)


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
        name = "columns" if self.columns is not None else "scale"
        if self.format in {"json", "npy"} and (self.columns is not None or self.scale != 1):
            raise PydanticCustomError(
                "layout_without_picture",
                "columns and scale lay out a picture, and format {format} is the images themselves; leave out {name}",
                {"format": self.format, "name": name, "allowed": f"{name}, or format {self.format}", "field": name},
            )
        return self


class Drawing(Picture):
    """What decides about images besides their number."""

    count: int | None = Field(1, ge=1, le=MAX_COUNT, description="number of images; image i does not depend on it")
    seed: Seed | None = Field(None, description="without it one is drawn, and named in X-Seed")
    truncation: Truncation = Field(1.0, description=TRUNCATION)
    sampler: Literal["plain", "rejection"] = Field(
        "plain",
        description="how latents are chosen: plain takes the first (of those that pass for the digit, where one is "
        "wanted); rejection draws on until a critic keeps an image as real enough, 64 at the most, and takes more time",
    )
    digit: Digit | None = Field(
        None,
        description="every image is to show this digit: latents are drawn until one passes for it, 2,048 at the most; "
        "X-Accepted, and accepted in JSON, say whether one did",
    )
    digits: DigitString | None = Field(
        None,
        description=f"a number written out, an image for each character, in one row; at most {MAX_DIGITS} of them; "
        "each is found as with digit",
    )
    scores: Flag = Field(
        False,
        description="judge the images of a picture or npy: X-Probability, X-Digit, X-Class-Probability, and the same "
        "with all that reproduces it in the text chunks of a PNG; json is judged always",
    )

    @property
    def wanted(self) -> tuple[int, ...] | None:
        """One digit for each image, where any are asked for."""
        if self.digits is not None:
            return tuple(map(int, self.digits))
        return None if self.digit is None else (self.digit,) * self.number

    @property
    def number(self) -> int:
        """How many images."""
        return (self.count or 1) if self.digits is None else len(self.digits)

    @property
    def in_a_row(self) -> int | None:
        """Columns of the grid, where they are given: a number is one row."""
        return self.columns if self.columns is not None or self.digits is None else len(self.digits)

    @model_validator(mode="after")
    def _digits_say_how_many(self) -> Self:
        for name in ("count", "digit"):
            if self.digits is not None and name in self.model_fields_set and getattr(self, name) is not None:
                raise PydanticCustomError(
                    "digits_and_more",
                    "digits say which digits and how many images; leave out {name}",
                    {"name": name, "allowed": f"digits or {name}", "field": "digits"},
                )
        return self


class GenerateQuery(Drawing):
    """What `GET /gan/generate` takes. The same seed always gives the same bytes."""


class GenerateRequest(Drawing):
    """What `POST /gan/generate` takes: latents of your own, or the fields of the GET."""

    model_config = ConfigDict(strict=True)

    latents: Latents | None = Field(None, description=f"n x {LATENT_DIM}, one row an image, taken as they are")

    @property
    def number(self) -> int:
        """How many images."""
        return super().number if self.latents is None else len(self.latents)

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
        for name in ("seed", "count", "digit", "digits", "truncation", "sampler"):
            neutral = {"truncation": 1.0, "sampler": "plain"}.get(name)
            if name in self.model_fields_set and getattr(self, name) not in (None, neutral):
                raise PydanticCustomError(
                    "latents_and_more",
                    "latents say all; leave out {name}",
                    {"name": name, "allowed": f"latents or {name}", "field": "latents"},
                )
        return self


class InterpolateQuery(BaseModel):
    """What `GET /gan/interpolate` takes. The same request always gives the same bytes."""

    model_config = ConfigDict(extra="forbid")

    seeds: Seeds = Field(description=f"2 to {MAX_KEYS} seeds with commas between them: the key images, in order")
    frames: int = Field(16, ge=1, le=120, description="from one key image to the next, the first of them included")
    loop: Flag = Field(True, description="go back to the first key image; without it the last one ends the animation")
    fps: float = Field(20.0, ge=1, le=50, allow_inf_nan=False, description="frames a second")
    scale: int = Field(1, ge=1, le=MAX_SCALE, description="every pixel is drawn so many times each way")
    format: AnimationFormat = Field("gif", description="all are lossless; gif rounds times to hundredths of a second")
    truncation: Truncation = Field(1.0, description=TRUNCATION)
    digit: Digit | None = Field(
        None, description="the key images are to show this digit, as in /gan/generate; those between them may not"
    )

    @model_validator(mode="after")
    def _a_loop_goes_somewhere(self) -> Self:
        if self.loop and self.seeds[0] == self.seeds[-1]:
            raise PydanticCustomError(
                "closed_twice",
                "the last seed is the first one again, and a loop goes back to it by itself",
                {"allowed": "leave out the last seed, or loop=false", "field": "seeds"},
            )
        return self

    @model_validator(mode="after")
    def _frames_are_bounded(self) -> Self:
        pixels = self.frames * len(self.seeds) * self.scale**2
        if pixels > MAX_FRAMES_AT_SCALE:
            raise PydanticCustomError(
                "too_many_frames",
                "frames x seeds x scale² is {pixels}; take fewer frames or a smaller scale",
                {"pixels": pixels, "allowed": f"at most {MAX_FRAMES_AT_SCALE}", "field": "frames"},
            )
        # Equal frames are stored once, and a GIF can hold one for 655 seconds.
        seconds = self.frames * len(self.seeds) / self.fps
        if seconds > MAX_SECONDS:
            raise PydanticCustomError(
                "too_long",
                "the animation lasts {seconds} seconds; take fewer frames, or more a second",
                {"seconds": round(seconds), "allowed": f"at most {MAX_SECONDS} seconds", "field": "frames"},
            )
        return self


class Images(BaseModel):
    """Generated images with what they were made of."""

    model_config = ConfigDict(extra="forbid")

    count: int
    seed: int | None = Field(description="null when latents were given")
    images: list[Any] = Field(description="n x 32 x 32 levels, 0 is black; POST them to /gan/discriminate as they are")
    latents: list[list[float]] = Field(description=f"n x {LATENT_DIM}; POST them to /gan/generate for the same images")
    probability: list[float] = Field(description="the discriminator's probability that image i is a real digit")
    class_probabilities: list[list[float]] | None = Field(
        description="n x 10, of being each digit; null where the checkpoint has no companions"
    )
    digit: list[int] | None = Field(description="the likeliest digit of each image")
    accepted: list[bool] = Field(
        description="whether the latent passed; false: none of those tried did, and this is the best of them"
    )
    attempts: list[int] = Field(description="latents looked at for each image, up to the one taken")
