"""Requests for generated images: their schemas and limits."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from .fields import (
    CHECKPOINT_DIGITS,
    MAX_DIGITS,
    MAX_KEYS,
    AnimationFormat,
    CheckpointName,
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

SCALE = "width and height of one image pixel, in output pixels"
TRUNCATION = (
    "factor that scales the latents towards the origin; down to 0.7 images stay clear but vary less, below about 0.5 "
    "they become blends of digits, and below 0.3 they look alike"
)
CHECKPOINT = (
    f"sha256 of the generator, as in X-Checkpoint, or at least its first {CHECKPOINT_DIGITS} digits; 404 if another "
    "generator is being served"
)


class Picture(BaseModel):
    """Layout and encoding of images."""

    model_config = ConfigDict(extra="forbid")

    columns: int | None = Field(None, ge=1, le=MAX_COUNT, description="images per row; default: a square grid")
    scale: int = Field(1, ge=1, le=MAX_SCALE, description=SCALE)
    format: Format = Field("png", description="png and webp: one picture; json and npy: levels, n x 32 x 32")

    @model_validator(mode="after")
    def _layout_is_for_pictures(self) -> Self:
        name = "columns" if self.columns is not None else "scale"
        if self.format in {"json", "npy"} and (self.columns is not None or self.scale != 1):
            raise PydanticCustomError(
                "layout_without_picture",
                "columns and scale lay out a picture, but format {format} returns the levels of each image; "
                "leave out {name}",
                {"format": self.format, "name": name, "allowed": f"{name}, or format {self.format}", "field": name},
            )
        return self


class Drawing(Picture):
    """How many images are drawn, and from which latents."""

    count: int | None = Field(
        1, ge=1, le=MAX_COUNT, description="number of images; image i of a seed is the same for every count"
    )
    seed: Seed | None = Field(None, description="default: a random seed, returned in X-Seed")
    truncation: Truncation = Field(1.0, description=TRUNCATION)
    sampler: Literal["plain", "rejection"] = Field(
        "plain",
        description="plain: the first latent (the first that passes for digit, if given); rejection: draw until a "
        "critic accepts an image, at most 64 times, which takes longer",
    )
    digit: Digit | None = Field(
        None,
        description="the digit that every image shows: at most 2,048 latents are drawn until one passes; "
        "X-Accepted, or accepted in JSON, reports whether one did",
    )
    digits: DigitString | None = Field(
        None,
        description=f"a number of at most {MAX_DIGITS} digits, drawn as one image per digit in one row; each image is "
        "chosen as with digit",
    )
    scores: Flag = Field(
        False,
        description="judge the images of a picture or npy: X-Probability, X-Digit and X-Class-Probability; a PNG also "
        "stores them, and all parameters, in its text chunks. json always includes scores",
    )
    checkpoint: CheckpointName | None = Field(None, description=CHECKPOINT)

    @property
    def requested_digits(self) -> tuple[int, ...] | None:
        """The digit of each image, if any were requested."""
        if self.digits is not None:
            return tuple(map(int, self.digits))
        return None if self.digit is None else (self.digit,) * self.image_count

    @property
    def image_count(self) -> int:
        """Number of images."""
        return (self.count or 1) if self.digits is None else len(self.digits)

    @property
    def grid_columns(self) -> int | None:
        """Columns of the grid, or None for a square grid; the images of `digits` form one row."""
        return self.columns if self.columns is not None or self.digits is None else len(self.digits)

    @property
    def needs_generator_only(self) -> bool:
        """Whether the answer depends on no other network: no latents are chosen, and no images are judged."""
        return self.requested_digits is None and self.sampler == "plain" and not self.scores and self.format != "json"

    @model_validator(mode="after")
    def _digits_exclude_count_and_digit(self) -> Self:
        for name in ("count", "digit"):
            if self.digits is not None and name in self.model_fields_set and getattr(self, name) is not None:
                raise PydanticCustomError(
                    "digits_and_more",
                    "digits already sets the number of images and their digits; leave out {name}",
                    {"name": name, "allowed": f"digits or {name}", "field": "digits"},
                )
        return self


class GenerateQuery(Drawing):
    """Query of `GET /gan/generate`. The same query with a seed always gives the same bytes."""


class GenerateRequest(Drawing):
    """Body of `POST /gan/generate`: latents, or the parameters of the GET."""

    model_config = ConfigDict(strict=True)

    latents: Latents | None = Field(None, description=f"n x {LATENT_DIM}, one row per image, used unchanged")

    @property
    def image_count(self) -> int:
        """Number of images."""
        return super().image_count if self.latents is None else len(self.latents)

    @model_validator(mode="after")
    def _latents_fit_and_stand_alone(self) -> Self:
        if self.latents is None:
            return self
        rows, width = self.latents.shape
        if width != LATENT_DIM:
            raise PydanticCustomError(
                "latent_width",
                "latents have {width} numbers per row; the generator needs {allowed}",
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
                    "latents already determine the images; leave out {name}",
                    {"name": name, "allowed": f"latents or {name}", "field": "latents"},
                )
        return self


class InterpolateQuery(BaseModel):
    """Query of `GET /gan/interpolate`. The same query always gives the same bytes."""

    model_config = ConfigDict(extra="forbid")

    seeds: Seeds = Field(description=f"2 to {MAX_KEYS} seeds separated by commas: the key images, in order")
    frames: int = Field(16, ge=1, le=120, description="frames per leg: a key image and the frames before the next one")
    loop: Flag = Field(True, description="return to the first key image; false: end with the last one")
    fps: float = Field(20.0, ge=1, le=50, allow_inf_nan=False, description="frames per second")
    scale: int = Field(1, ge=1, le=MAX_SCALE, description=SCALE)
    format: AnimationFormat = Field("gif", description="all are lossless; gif rounds times to hundredths of a second")
    truncation: Truncation = Field(1.0, description=TRUNCATION)
    digit: Digit | None = Field(
        None, description="the digit that the key images show, as in /gan/generate; other frames may show another"
    )
    checkpoint: CheckpointName | None = Field(None, description=CHECKPOINT)

    @property
    def needs_generator_only(self) -> bool:
        """Whether the answer depends on no other network: no latents are chosen."""
        return self.digit is None

    @model_validator(mode="after")
    def _a_loop_closes_once(self) -> Self:
        if self.loop and self.seeds[0] == self.seeds[-1]:
            raise PydanticCustomError(
                "closed_twice",
                "the first and the last seed are equal, but a loop returns to the first by itself",
                {"allowed": "leave out the last seed, or loop=false", "field": "seeds"},
            )
        return self

    @model_validator(mode="after")
    def _size_and_duration_are_bounded(self) -> Self:
        frames = self.frames * len(self.seeds)
        pixels = frames * self.scale**2
        if pixels > MAX_FRAMES_AT_SCALE:
            raise PydanticCustomError(
                "too_many_frames",
                "frames x seeds x scale² is {pixels}; reduce frames or scale",
                {"pixels": pixels, "allowed": f"at most {MAX_FRAMES_AT_SCALE}", "field": "frames"},
            )
        # Equal frames are stored once, and a GIF can show one frame for 655 seconds at most.
        seconds = frames / self.fps
        if seconds > MAX_SECONDS:
            raise PydanticCustomError(
                "too_long",
                "the animation lasts {seconds} seconds; reduce frames or increase fps",
                {"seconds": round(seconds), "allowed": f"at most {MAX_SECONDS} seconds", "field": "frames"},
            )
        return self
