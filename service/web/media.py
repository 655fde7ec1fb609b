"""The declared media type and encoding of a request's body."""

from __future__ import annotations

from email.message import Message

from starlette.requests import Request

from ..errors import UnsupportedMediaType


def media_type(request: Request) -> str:
    """The body's media type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(kind: str) -> bool:
    """Whether a media type is JSON: application/json, or another with the suffix +json (RFC 6839, 3.1)."""
    return kind == "application/json" or kind.endswith("+json")


def refuse_charset(request: Request) -> None:
    """Raise UnsupportedMediaType for a body of text in another charset than UTF-8."""
    header = request.headers.get("content-type", "")
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
    codings = ", ".join(request.headers.getlist("content-encoding")).strip()
    if codings.lower() not in {"", "identity"}:
        raise UnsupportedMediaType(
            f"the body has Content-Encoding {codings[:80]!r}, but compressed bodies are not supported; "
            "send it uncompressed",
            pointer="/Content-Encoding",
            allowed=["identity"],
        )
