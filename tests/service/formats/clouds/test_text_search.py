"""Searches of a large text part by part."""

from __future__ import annotations

import re

import pytest

from service.formats.clouds import text


@pytest.mark.parametrize("place", range(13))
@pytest.mark.parametrize("mark", [b"x", b"xy", b"xyz"])
def test_a_mark_is_found_at_every_place(mark: bytes, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_PART", 4)
    data = b"." * place + mark + b"." * (12 - place) + mark
    assert text.contains(data, mark)
    assert text.find_first(re.compile(mark), data, len(mark)) == place
    assert not text.contains(data, mark + b"!")
    assert text.find_first(re.compile(mark + b"!"), data, len(mark) + 1) is None
