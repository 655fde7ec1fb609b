"""Lookup of the application's parts by their types."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from fastapi import Request

PartT = TypeVar("PartT")


class BodyLimits(NamedTuple):
    """Upper bounds of request bodies."""

    body_bytes: int
    """Bytes of one body."""
    inflight_bytes: int
    """Bytes of all bodies held at once."""
    elements: int
    """Elements of one JSON body, counted by its commas, or of one body of arrays."""


def part(request: Request, kind: type[PartT]) -> PartT:
    """The part of type `kind` of the application that serves `request`.

    The application holds its parts in one tuple, `service.app.Parts`. Routes find their part by its type, because they
    must not import the module that wires the application.

    Raises:
        LookupError: the application has no such part.
    """
    for found in request.app.parts:
        if type(found) is kind:
            return found
    raise LookupError(f"the application has no part of type {kind.__name__}")
