"""Searches and changes of a large text part by part, with the result of one call for all of it."""

from __future__ import annotations

import codecs
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import LatentserveError
from service.formats.clouds import text
from service.formats.clouds.cloud_file import CloudFile

PIECES = ["−", "1", ".", "x", "\r", "\n", "é", "😀", " "]


@pytest.fixture(autouse=True)
def _short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_PART", 4)
    monkeypatch.setattr(text, "_SHORT_PART", 8)


def read(data: bytes) -> bytes:
    return text.as_text(CloudFile(data)).data


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_minus_signs_and_lone_returns_are_replaced_as_in_the_whole_text(content: str) -> None:
    expected = content if "\n" in content else content.replace("\r", "\n")
    assert read(content.encode()).decode() == re.sub(r"−(?=[\d.])", "-", expected)


@given(st.lists(st.sampled_from([*PIECES, "\r\n"]), max_size=20).map("".join), st.sampled_from(["le", "be"]))
def test_utf16_is_decoded_as_the_whole_text(content: str, order: str) -> None:
    data = {"le": codecs.BOM_UTF16_LE, "be": codecs.BOM_UTF16_BE}[order] + content.encode(f"utf-16-{order}")
    assert read(data) == read(content.encode())
    with pytest.raises(LatentserveError, match="not UTF-16"):
        read(data + b"\x00")


@pytest.mark.parametrize("place", range(13))
@pytest.mark.parametrize("mark", [b"x", b"xy", b"xyz"])
def test_a_mark_is_found_at_every_place(mark: bytes, place: int) -> None:
    data = b"." * place + mark + b"." * (12 - place) + mark
    assert text.contains(data, mark)
    assert text.find_first(re.compile(mark), data, len(mark)) == place
    assert not text.contains(data, mark + b"!")
    assert text.find_first(re.compile(mark + b"!"), data, len(mark) + 1) is None
