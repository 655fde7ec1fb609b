"""The forms of a registration's answer: JSON, a file of the registered cloud, or a picture."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from ..errors import InvalidInput, NotAcceptable
from ..formats.arrays import Float64, to_json
from ..formats.clouds import writing
from .drawing.pictures import Frames, PictureKind, draw
from .missing import Mask, expand

Kind = Literal["json"] | writing.Format | PictureKind

# In order of preference, if the client has none.
MEDIA_TYPES: dict[str, Kind] = {
    "application/json": "json",
    **writing.MEDIA_TYPES,
    "image/png": "png",
    "image/gif": "gif",
}
# The entries of the OpenAPI document for all forms but JSON.
CONTENT: dict[str, Any] = {
    name: {"schema": {"type": "string"} | ({} if name.startswith("text/") else {"format": "binary"})}
    for name, kind in MEDIA_TYPES.items()
    if kind != "json"
}
# Servers and proxies limit the length of headers. 64 numbers are a matrix for D = 7.
MAX_HEADER_NUMBERS = 64
MAX_WARNINGS = 4096  # characters
TOO_LONG = "the warnings are too long for a header; the JSON answer has them"

# One range of an Accept header. A comma within quotes does not end it.
RANGE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
WEIGHT = re.compile(r"\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*", re.IGNORECASE)


class Representation(NamedTuple):
    """The form of an answer, and its media type as requested."""

    media_type: str
    kind: Kind

    def check_dimension(self, dimension: int) -> None:
        """Raise NotAcceptable if the format does not support points of this dimension."""
        if self.kind in writing.WRITERS:
            writing.check_dimension(dimension, self.kind)


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


def negotiate(accept: str | None) -> Representation:
    """The form that an Accept header prefers (RFC 9110, 12.5.1); JSON if the header is absent.

    The most specific range that matches a form gives its quality, and 0 excludes the form. If two forms have the same
    quality, a named form precedes one that only a wildcard matches: `image/png, */*` selects the picture. Parameters
    other than q, and ranges that violate the grammar, are ignored.

    Raises:
        NotAcceptable: the header excludes all forms.
    """
    if accept is None or not accept.strip():
        return Representation("application/json", "json")
    ranges = [found for text in RANGE.findall(accept) if (found := _range(text)) is not None]
    best: tuple[float, int] = (0.0, -1)
    chosen: Representation | None = None
    for media_type, kind in MEDIA_TYPES.items():
        specificity, quality = max(
            ((found.specificity(media_type), found.quality) for found in ranges), default=(-1, 0.0)
        )
        if specificity >= 0 and quality > 0 and (quality, specificity) > best:
            best, chosen = (quality, specificity), Representation(media_type, kind)
    if chosen is None:
        raise NotAcceptable(
            f"a registration is available in none of the forms in Accept: {accept[:200]}",
            pointer="/Accept",
            allowed=list(MEDIA_TYPES),
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


def encode(
    form: Representation,
    source: Float64,
    target: Float64,
    registered: Float64,
    frames: Frames = (),
    present: Mask | None = None,
) -> bytes:
    """The body of an answer other than JSON: a file of the registered cloud, or a picture; see `pictures.draw`.

    `source` and `registered` are (N, D), `target` (M, D). `present` is the mask of the file's points with coordinates;
    the others are written as NaN.

    Raises:
        NotAcceptable: the format does not support points of this dimension.
        InvalidInput: coordinates of registered points are not finite.
    """
    if not np.isfinite(registered).all():
        raise InvalidInput("coordinates of the registered points overflow; scale the clouds down", pointer="/source")
    if form.kind in {"png", "gif"}:
        return draw(source, target, registered, frames, form.kind)
    if form.kind in writing.WRITERS:
        return writing.write_cloud(expand(registered, present), form.kind)
    raise ValueError(f"{form.kind} is not a cloud or a picture")


HEADERS = {
    "X-Transform": "the matrix as JSON; in answers with a cloud or a picture",
    "X-Log-Likelihood": "the log-likelihood in nats; in answers with a cloud or a picture",
    "X-Warnings": "the warnings, if any, as a JSON list; in answers with a cloud or a picture",
}


def headers(found: Mapping[str, Any]) -> dict[str, str]:
    """The headers of an answer with a cloud or a picture: `X-Transform`, `X-Log-Likelihood` and `X-Warnings`.

    Args:
        found: the registration, from `wire.registration`; `matrix` and `log_likelihood` may be None.
    """
    matrix, likelihood = found["matrix"], found["log_likelihood"]
    result = {}
    if matrix is not None and matrix.size <= MAX_HEADER_NUMBERS:
        result["X-Transform"] = to_json(matrix).decode()
    if likelihood is not None:
        result["X-Log-Likelihood"] = repr(float(likelihood))
    warnings = json.dumps(list(found.get("warnings", ())))
    if len(warnings) > len("[]"):
        result["X-Warnings"] = warnings if len(warnings) <= MAX_WARNINGS else json.dumps([TOO_LONG])
    return result
