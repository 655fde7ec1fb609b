"""Requests for many registrations as arrays: the points of all problems, and where each problem's begin."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from ...formats.arrays import Vector
from .registration import RegisterRequest


class RaggedRequest(RegisterRequest):
    """The clouds of B problems one after the other, and options that all of them have."""

    source_offsets: Vector = Field(description="B + 1 integers: where the points of each problem begin, and the end")
    target_offsets: Vector = Field(description="the same for target")
    pairs_offsets: Vector | None = Field(None, description="the same for pairs; needed with pairs only")

    @model_validator(mode="after")
    def _answer_fits_the_wire(self) -> Self:
        return self  # each problem is checked on its own
