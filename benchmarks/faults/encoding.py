"""From the fields of a request to its bytes: query strings, JSON, archives of arrays, forms of files, and pictures."""

from __future__ import annotations

import functools
import io
import json
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from benchmarks.faults.mutation import damaged
from benchmarks.faults.valid import Draft
from benchmarks.serving.processes import ROOT

CORPUS = ROOT / "tests" / "fuzz" / "corpus"
NPZ = "application/x-npz"
_BOUNDARY = "boundary7"
# Endpoints that read arrays; a batch of them has another form than its JSON.
_READ_ARRAYS = {"/em/register", "/vae/reparam-grad"}
_ACCEPT = {
    "/em/register": (NPZ, "text/csv", "application/x-npy", "model/ply", "application/x-pcd", "image/png", "image/gif"),
    "/em/register/batch": (NPZ,),
    "/vae/reparam-grad": (NPZ,),
}


def encoded(draft: Draft, rng: random.Random, plain: bool) -> bytes:
    """The request as HTTP/1.1, in a random encoding that its endpoint reads; a plain one is a query or JSON."""
    head = {"host": "localhost"}
    if draft.method == "GET":
        query = "&".join(f"{_quoted(str(name))}={_quoted(_text(value))}" for name, value in draft.fields.items())
        return _bytes(draft.method, f"{draft.path}?{query}", head, b"")
    accepted = _ACCEPT.get(draft.path)
    if accepted and not plain and rng.random() < 0.4:
        head["accept"] = rng.choice(accepted)
    choice = 0.0 if plain else rng.random()
    if draft.path in _READ_ARRAYS and 0.5 < choice < 0.7:
        body, head["content-type"] = _archive(draft.fields), NPZ
    elif draft.path == "/em/register" and choice > 0.7:
        body, head["content-type"] = _form(draft.fields, rng), f"multipart/form-data; boundary={_BOUNDARY}"
    elif draft.path == "/gan/discriminate" and choice > 0.3:
        body, head["content-type"] = _picture(rng)
    else:
        body, head["content-type"] = json.dumps(draft.fields).encode(), "application/json"
    return _bytes(draft.method, draft.path, head, body)


def _bytes(method: str, target: str, head: dict[str, str], body: bytes) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"{method} {target} HTTP/1.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body


def split(request: bytes) -> tuple[bytes, bytes]:
    """The head of a request up to its Content-Length, and the body."""
    head, _, body = request.partition(b"\r\n\r\n")
    return head.rpartition(b"\r\ncontent-length:")[0], body


def joined(head: bytes, body: bytes) -> bytes:
    """The inverse of `split`, with the length of the body."""
    return head + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def _quoted(text: str) -> str:
    return quote(text, errors="surrogateescape")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _archive(fields: dict[str, Any]) -> bytes:
    """The fields as arrays. Values that make no array of numbers or texts are left out."""
    arrays: dict[str, Any] = {}
    for name, value in _flat(fields).items():
        try:
            array = np.array(value)
        except ValueError:  # ragged
            continue
        if array.dtype.kind in "biufU":
            arrays[name] = array
    out = io.BytesIO()
    with np.errstate(all="ignore"):
        np.savez(out, **arrays)
    return out.getvalue()


def _flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        safe = str(name).encode(errors="replace").decode()
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{safe}.")
        elif prefix + safe not in {"", "file"}:  # np.savez takes the name `file` for its own
            found[prefix + safe] = value
    return found


def _form(fields: dict[str, Any], rng: random.Random) -> bytes:
    """The fields as a form. Each cloud is a file of the corpus, a damaged one, or its own points as text."""
    parts = []
    for name, value in fields.items():
        if name not in {"source", "target"}:
            parts.append(_part(str(name), None, _text(value).encode()))
            continue
        path = _file("clouds", rng)
        choice = rng.random()
        if choice < 0.4:
            content = json.dumps(value).encode()
        elif choice < 0.7:
            content = path.read_bytes()
        else:
            content = damaged(path.read_bytes(), rng)
        parts.append(_part(str(name), rng.choice((path.name, "cloud")), content))
    return b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()


def _part(name: str, filename: str | None, content: bytes) -> bytes:
    extra = f'; filename="{filename}"' if filename else ""
    safe = name.encode(errors="replace").decode()
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{safe}"{extra}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def _picture(rng: random.Random) -> tuple[bytes, str]:
    """A picture of the corpus, whole or damaged, alone or in a form."""
    path = _file("images", rng)
    content = path.read_bytes() if rng.random() < 0.5 else damaged(path.read_bytes(), rng)
    if rng.random() < 0.5:
        return content, f"image/{path.suffix[1:]}"
    return _part("images", path.name, content) + f"--{_BOUNDARY}--\r\n".encode(), (
        f"multipart/form-data; boundary={_BOUNDARY}"
    )


def _file(target: str, rng: random.Random) -> Path:
    return rng.choice(_files(target))


@functools.cache
def _files(target: str) -> list[Path]:
    return sorted((CORPUS / target).iterdir())
