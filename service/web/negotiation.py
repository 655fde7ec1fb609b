"""The choice of an answer's media type by the `Accept` header (RFC 9110, 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from fastapi import Request

from ..errors import NotAcceptable
from .media import header_values

# One range of an Accept header. A comma within quotes does not end it.
RANGE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
WEIGHT = re.compile(r"\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*", re.IGNORECASE)


class _Range(NamedTuple):
    pattern: str
    quality: float

    def specificity(self, media_type: str) -> int:
        """2 for the type itself, 1 for its family, 0 for `*/*`, -1 for no match."""
        if self.pattern == media_type:
            return 2
        if self.pattern == media_type.partition("/")[0] + "/*":
            return 1
        return 0 if self.pattern == "*/*" else -1


def accepted(request: Request) -> str:
    """The request's Accept header; empty if it has none."""
    return ", ".join(header_values(request, b"accept"))


def negotiate(accept: str | None, media_types: Iterable[str], subject: str) -> str:
    """The media type that an Accept header prefers; the first one if the header is absent.

    The most specific range that matches a type gives its quality, and 0 excludes the type. If two types have the same
    quality, a named type precedes one that only a wildcard matches. `image/png, */*` selects the picture. Parameters
    other than q, and ranges that violate the grammar, are ignored.

    Args:
        accept: the header.
        media_types: the types of the answer, in order of preference.
        subject: what is answered, for the error.

    Raises:
        NotAcceptable: the header excludes all types.
    """
    if accept is None or not accept.strip():
        return next(iter(media_types))
    offered = list(media_types)
    ranges = [found for text in RANGE.findall(accept) if (found := _range(text)) is not None]
    best: tuple[float, int] = (0.0, -1)
    chosen: str | None = None
    for media_type in offered:
        specificity, quality = max(
            ((found.specificity(media_type), found.quality) for found in ranges), default=(-1, 0.0)
        )
        if specificity >= 0 and quality > 0 and (quality, specificity) > best:
            best, chosen = (quality, specificity), media_type
    if chosen is None:
        raise NotAcceptable(
            f"{subject} is available in none of the forms in Accept: {accept[:200]}",
            pointer="/Accept",
            allowed=offered,
        )
    return chosen


def _range(text: str) -> _Range | None:
    pattern, *parameters = text.split(";")
    pattern = pattern.strip().lower()
    if pattern.count("/") != 1:
        return None
    for parameter in parameters:
        if parameter.partition("=")[0].strip().lower() == "q":
            weight = WEIGHT.fullmatch(parameter)
            return _Range(pattern, float(weight[1])) if weight else None
    return _Range(pattern, 1.0)
