"""Clouds are written in pieces, which changes no byte."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

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
