"""Forms: parts of any bytes arrive whole, and stay in memory."""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from service.errors import MalformedBody
from service.web import forms
from service.web.forms import Part, read_parts

TEXTS = st.binary(max_size=40) | st.sampled_from([b"\r\n--", b"\r" * 9, b"\r\n--b", b"\n"])


def read(body: bytes, cut: int, media_type: str = "multipart/form-data; boundary=b0undary") -> list[Part]:
    """The parts of a body that arrives in pieces of `cut` bytes."""
    pieces = [body[start : start + cut] for start in range(0, len(body), cut)]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    return asyncio.run(
        read_parts(Request({"type": "http", "headers": [(b"content-type", media_type.encode())]}, receive))
    )


def form(parts: list[Part]) -> bytes:
    lines = []
    for part in parts:
        filename = b"" if part.filename is None else f'; filename="{part.filename}"'.encode()
        lines += [
            b"--b0undary",
            f'Content-Disposition: form-data; name="{part.name}"'.encode() + filename,
            b"",
            part.content,
        ]
    return b"\r\n".join([*lines, b"--b0undary--", b""])


@given(st.lists(st.tuples(TEXTS, st.sampled_from([None, "a.csv"])), min_size=1, max_size=4), st.integers(1, 200))
def test_parts_arrive_whole_however_the_body_is_cut(contents: list[tuple[bytes, str | None]], cut: int) -> None:
    parts = [Part(f"p{place}", content, filename) for place, (content, filename) in enumerate(contents)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "_PIECE_BYTES", 8)
        assert read(form(parts), cut) == parts


@pytest.mark.parametrize("filename", [None, "a.csv"])
def test_a_large_part_stays_in_memory(filename: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise AssertionError("a part was written to the disk")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", refuse)
    part = Part("source", b"\r" * (1 << 21) + b"1,2\n" * (1 << 19), filename)
    assert read(form([part]), 1 << 16) == [part]


def test_a_text_in_another_charset_is_converted_if_it_is_short() -> None:
    media_type = "multipart/form-data; boundary=b0undary; charset=iso-8859-1"
    (part,) = read(form([Part("a", "é".encode("latin-1"), None)]), 100, media_type)
    assert part.content == "é".encode()
    with pytest.raises(MalformedBody, match="charset iso8859-1"):
        read(form([Part("a", b"1" * (forms.MAX_CONVERTED + 1), None)]), 1 << 16, media_type)
