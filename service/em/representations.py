"""The forms of a registration's answer: JSON, arrays, a file of the registered cloud, or a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np

from ..errors import InvalidInput
from ..formats.arrays import Float64, to_json
from ..formats.clouds import writing
from ..web import negotiation, npz_body
from .drawing.pictures import Frames, PictureKind, draw
from .missing import Mask, expand

Kind = Literal["json", "npz"] | writing.Format | PictureKind

# In order of preference, if the client has none.
MEDIA_TYPES: dict[str, Kind] = {
    "application/json": "json",
    **writing.MEDIA_TYPES,
    npz_body.MEDIA_TYPE: "npz",
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


class Representation(NamedTuple):
    """The form of an answer, and its media type as requested."""

    media_type: str
    kind: Kind

    def check_dimension(self, dimension: int) -> None:
        """Raise NotAcceptable if the format does not support points of this dimension."""
        if self.kind in writing.WRITERS:
            writing.check_dimension(dimension, self.kind)


@lru_cache(maxsize=32)  # to read `*/*` against all forms takes longer than to check a problem
def negotiate(accept: str | None) -> Representation:
    """The form that an Accept header prefers, JSON if it is absent; see `web.negotiation`.

    Raises:
        NotAcceptable: the header excludes all forms.
    """
    media_type = negotiation.negotiate(accept, MEDIA_TYPES, "a registration")
    return Representation(media_type, MEDIA_TYPES[media_type])


def encode(
    form: Representation,
    source: Float64,
    target: Float64,
    registered: Float64,
    frames: Frames = (),
    present: Mask | None = None,
) -> bytes:
    """The body of an answer other than JSON and npz: a file of the registered cloud, or a picture; see `pictures.draw`.

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
