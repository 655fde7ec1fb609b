"""The headers of a request, and the media type and encoding that they declare for its body."""

from __future__ import annotations

from collections.abc import Sequence
from email.message import Message

from starlette.requests import Request

from ..errors import MalformedBody, UnsupportedMediaType

# Key of the scope under which the outermost layer stores the headers as a dict, with the last value of each. Most of
# those that an endpoint reads are absent, which the dict tells at once.
HEADERS = "latentserve.headers"
# What the bodies of media types other than JSON begin with.
SIGNATURES = {"application/x-npz": b"PK\x03\x04"}


def header_values(request: Request, name: bytes) -> list[str]:
    """The values of a header, in order. `name` is in lower case, as in the scope."""
    names = request.scope.get(HEADERS)
    if names is not None and name not in names:
        return []
    # Starlette's `Headers` takes ten times as long, which is much for a small request.
    return [value.decode("latin-1") for key, value in request.scope["headers"] if key == name]


def _content_type(request: Request) -> str:
    values = header_values(request, b"content-type")
    return values[0] if values else ""


def media_type(request: Request) -> str:
    """The body's media type without its parameters, in lower case."""
    return _content_type(request).partition(";")[0].strip().lower()


def is_json(kind: str) -> bool:
    """Whether a media type is JSON: application/json, or another with the suffix +json (RFC 6839, 3.1)."""
    return kind == "application/json" or kind.endswith("+json")


def unsupported(kind: str, allowed: Sequence[str]) -> UnsupportedMediaType:
    """The error of a body of the media type `kind`, which may be empty, where an endpoint reads those in `allowed`."""
    listed = " or ".join([*filter(None, [", ".join(allowed[:-1])]), allowed[-1]])
    cure = f"Content-Type: {listed}" if len(allowed) == 1 else "the Content-Type of its format"
    return UnsupportedMediaType(
        f"the body has {f'the media type {kind[:80]}' if kind else 'no media type'}, but this endpoint reads {listed}; "
        f"send it with {cure}",
        allowed=list(allowed),
    )


def misdeclared(error: MalformedBody, start: bytes, allowed: Sequence[str]) -> MalformedBody:
    """The error of a body that is not JSON. It names the media type in `allowed` that begins with `start`, if any."""
    for kind in allowed:
        if kind in SIGNATURES and start.startswith(SIGNATURES[kind]):
            return MalformedBody(
                f"the body is declared to be JSON, but begins as {kind} does; send it with Content-Type: {kind}",
                allowed=error.allowed,
            )
    return error


def refuse_charset(request: Request) -> None:
    """Raise UnsupportedMediaType for a body of text in another charset than UTF-8."""
    header = _content_type(request)
    if ";" not in header:  # no parameters; parsing them takes as long as reading a small body
        return
    declared = Message()
    declared["content-type"] = header
    charset = str(declared.get_param("charset", "utf-8"))
    if charset.lower() not in {"utf-8", "utf8"}:
        raise UnsupportedMediaType(
            f"the body has the charset {charset[:80]!r}, but JSON is read in UTF-8 only",
            pointer="/Content-Type",
            allowed=["charset=utf-8"],
        )


def refuse_encoding(request: Request) -> None:
    """Raise UnsupportedMediaType for a body that is compressed."""
    codings = ", ".join(header_values(request, b"content-encoding")).strip()
    if codings.lower() not in {"", "identity"}:
        raise UnsupportedMediaType(
            f"the body has Content-Encoding {codings[:80]!r}, but compressed bodies are not supported; "
            "send it uncompressed",
            pointer="/Content-Encoding",
            allowed=["identity"],
        )
