"""Rows are parsed part by part, with the numbers and the errors of the whole."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.formats.clouds import text

FIELDS = st.sampled_from(["1", "-2.5", "1e300", "nan", "x"])
ROWS = st.lists(st.lists(FIELDS, min_size=2, max_size=2), min_size=1, max_size=12)


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "PARSED_ROWS", 3)


@given(ROWS, st.sampled_from([None, [1], [1, 0]]))
def test_parts_have_the_numbers_and_the_errors_of_the_whole(rows: list[list[str]], use: list[int] | None) -> None:
    written = [" ".join(row) for row in rows]
    outcomes = []
    for read in (partial(np.loadtxt, usecols=use, ndmin=2), partial(text.parse, use=use)):
        try:
            outcomes.append(read(written).tolist())
        except ValueError as error:
            outcomes.append(str(error))
    assert repr(outcomes[0]) == repr(outcomes[1])


@pytest.mark.parametrize("place", range(1, 8))
def test_a_row_of_another_length_is_refused_in_each_part(place: int) -> None:
    rows = ["1 2"] * 8
    rows[place] = "1 2 3"
    with pytest.raises(ValueError, match=rf"changed from 2 to 3 at row {place + 1}\b"):
        text.parse(rows)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        text.parse([])


@given(st.binary(max_size=20))
def test_only_a_byte_order_mark_is_removed(data: bytes) -> None:
    assert text.without_bom(text.BOM + data) == data
    assert text.without_bom(b"x" + data) == b"x" + data


@given(st.lists(st.sampled_from([b" ", b"a", b"ab", b"\n"]), max_size=20).map(b"".join), st.integers(0, 3))
def test_long_lines_come_in_pieces(data: bytes, start: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "MAX_LINE", 3)
        pieces = list(text.pieces_of_lines(data, start))
    assert b"".join(pieces) == data[start:]
    assert all(len(piece) == 4 or piece.endswith(b"\n") for piece in pieces[:-1])
