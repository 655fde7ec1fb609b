"""In which form a registration is answered: the numbers as JSON, the registered cloud as a file, or a picture."""

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

# In the order of preference where the client has none.
MEDIA_TYPES: dict[str, Kind] = {
    "application/json": "json",
    **writing.MEDIA_TYPES,
    "image/png": "png",
    "image/gif": "gif",
}
# The OpenAPI document's entry for the forms besides JSON.
CONTENT: dict[str, Any] = {
    name: {"schema": {"type": "string"} | ({} if name.startswith("text/") else {"format": "binary"})}
    for name, kind in MEDIA_TYPES.items()
    if kind != "json"
}
# Servers and proxies bound the length of headers; this is D = 7.
MAX_HEADER_NUMBERS = 64
MAX_WARNINGS = 4096  # characters
TOO_LONG = "the warnings are too long for a header; ask for JSON"

# Frames in which a nonrigid displacement unfolds.
UNFOLDING = 15
# A comma within quotes does not end a range.
RANGE = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"?)+')
WEIGHT = re.compile(r"\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*", re.IGNORECASE)


class Representation(NamedTuple):
    """The form of an answer, and the name by which it was asked for."""

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
        """2 where it names the type, 1 for its family, 0 for any type, -1 where it does not match."""
        if self.pattern == media_type:
            return 2
        if self.pattern == media_type.partition("/")[0] + "/*":
            return 1
        return 0 if self.pattern == "*/*" else -1


def negotiate(accept: str | None) -> Representation:
    """The form that an Accept header likes best (RFC 9110, 12.5.1); JSON without one.

    The most specific range that matches a form gives its quality, 0 excludes it. Where two forms have the same
    quality, the one that is named beats the one that a wildcard lets through: `image/png, */*` is a picture.
    Parameters but q are not looked at, and ranges that break the grammar are passed over.

    Raises:
        NotAcceptable: the header excludes all of them.
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
            f"a registration has none of the forms that Accept: {accept[:200]} asks for",
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


class Iterations:
    """Frames of a picture: the source, (N, D), as each iteration's y = A·p + t moves it, computed when looked up.

    Args:
        source: (N, D)
        translations: (K, D), the t of each iteration.
        linear: (K, D, D), the A of each; None is the identity.
        displacement: (N, D), by which a nonrigid transform moves the points on; shown in UNFOLDING frames at the end.
    """

    def __init__(
        self,
        source: Float64,
        translations: Float64,
        linear: Float64 | None = None,
        displacement: Float64 | None = None,
    ) -> None:
        self.source, self.translations, self.linear = source, translations, linear
        self.displacement = displacement

    def __len__(self) -> int:
        """How many frames there are."""
        return len(self.translations) + (UNFOLDING if self.displacement is not None else 0)

    def __getitem__(self, index: int, /) -> Float64:
        """(N, D)"""
        beyond = max(0, index - len(self.translations) + 1)
        pose = index - beyond
        turned = self.source if self.linear is None else self.source @ self.linear[pose].T
        moved: Float64 = turned + self.translations[pose]
        if beyond and self.displacement is not None:
            moved = moved + self.displacement * (beyond / UNFOLDING)
        return moved


def encode(
    form: Representation,
    source: Float64,
    target: Float64,
    registered: Float64,
    frames: Frames = (),
    present: Mask | None = None,
) -> bytes:
    """The body of an answer that is not JSON: a file of the registered cloud, or a picture; see `pictures.draw`.

    `present` is the mask of the points of the file that have coordinates. The others are written as NaN.

    Raises:
        NotAcceptable: the format does not support points of this dimension.
        InvalidInput: the registered points overflowed.
    """
    if not np.isfinite(registered).all():
        raise InvalidInput(
            "the registered points are beyond the largest float; scale the clouds down", pointer="/source"
        )
    if form.kind in {"png", "gif"}:
        return draw(source, target, registered, frames, form.kind)
    if form.kind in writing.WRITERS:
        return writing.write_cloud(expand(registered, present), form.kind)
    raise ValueError("JSON is not encoded here")


HEADERS = {
    "X-Transform": "the matrix as JSON; with a cloud or a picture",
    "X-Log-Likelihood": "the number; with a cloud or a picture",
    "X-Warnings": "the warnings as a JSON list, if there are any; with a cloud or a picture",
}


def headers(found: Mapping[str, Any]) -> dict[str, str]:
    """What of a registration goes along with a cloud or a picture: `X-Transform` and
    `X-Warnings`, as JSON, and `X-Log-Likelihood`.

    Args:
        found: the registration as JSON would have it; `matrix` and `log_likelihood` may be None.
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
