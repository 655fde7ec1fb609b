"""Clouds are read and written in pieces, which changes no byte."""

from __future__ import annotations

import io
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.formats import npz
from service.formats.clouds import pieces, writing
from service.formats.clouds.reading import read_cloud

POINTS = np.random.default_rng(0).normal(size=(23, 3)) * 10.0 ** np.arange(-20, 3)[:, None]


@pytest.mark.parametrize("kind", get_args(writing.Format))
def test_pieces_are_the_whole_and_read_back_to_the_bit(kind: writing.Format, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = writing.write_cloud(POINTS, kind)
    monkeypatch.setattr(pieces, "NUMBERS", 4)
    assert writing.write_cloud(POINTS, kind) == whole
    assert read_cloud(whole).points.tobytes() == POINTS.tobytes()


def test_pieces_of_an_archive_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = npz.write_arrays({"points": POINTS, "none": POINTS[:0]})
    monkeypatch.setattr(npz, "_PIECE", 7)
    assert bytes(npz.write_arrays({"points": POINTS, "none": POINTS[:0]})) == whole


@given(st.binary(max_size=12), st.integers(0, 14), st.integers(0, 14))
def test_copies_in_pieces_are_those_of_one_call(data: bytes, start: int, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "BYTES", 3)
        assert pieces.copied(data, start, start + size) == data[start : start + size]
        assert pieces.read(io.BytesIO(data), b"ab", size) == b"ab" + data[:size]
