"""The arrays of a JSON text: which are found, and the limits of what is examined."""

from __future__ import annotations

import json

import numpy as np
import pytest

from service.formats.json_numbers import reading
from service.formats.json_numbers.finding import names
from service.formats.json_numbers.reading import Broken, Even, Ragged, Unwanted, Wrong, find

NAMES = names({"m": (2, 2), "s": (2, 3)}, ["kept"])
# Spaces that make an array long enough to be found.
LONG = " " * 600


def test_arrays_are_found_by_their_keys_at_any_depth() -> None:
    text = f'{{"a": [{{"m": [[1, 2], [3, 4]{LONG}]}}], "kept": [1{LONG}], "b": {{"other": [[1], "x"{LONG}]}}}}'.encode()
    found = find(text, NAMES)
    assert [type(array) for array in found] == [Even, Unwanted]
    array = found[0]
    assert isinstance(array, Even)
    assert np.array_equal(array.numbers, [[1, 2], [3, 4]])
    assert text[array.start : array.stop] == f"[[1, 2], [3, 4]{LONG}]".encode()


def test_keys_in_strings_and_after_escapes_are_no_keys() -> None:
    assert find(f'{{"a": "\\"m\\": [[1]{LONG}]"}}'.encode(), NAMES) == []
    assert find(f'{{"\\u006d": [[1]{LONG}]}}'.encode(), NAMES) == []


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        ("[[1, 2], [3, null]", Wrong),
        ("[[1, 2], [3]", Ragged),
        ("[[[1]], [[2], [3]]", Ragged),
        ("[[1, 2], [3,, 4]", Broken),
        ("[[1, 2] [3, 4]", Broken),
    ],
)
def test_faults_are_told_apart(array: str, kind: type) -> None:
    assert [type(found) for found in find(f'{{"s": {array}{LONG}]}}'.encode(), NAMES)] == [kind]


@pytest.mark.parametrize("inner", ["{}", '"\\n"', "1" * 300, "[" * 70 + "]" * 70])
def test_what_is_not_examined_stays_in_the_text(inner: str) -> None:
    assert find(f'{{"m": [[1], [{inner}]{LONG}]}}'.encode(), NAMES) == []


def test_a_text_with_more_numbers_than_its_commas_allow_is_read_within_its_buffer() -> None:
    text = f'"m":[[1{LONG}]]'.encode() * 1000
    assert sum(isinstance(found, Even) for found in find(text, NAMES)) <= 1


@pytest.mark.parametrize(
    "text", [b"", b'"', b'"m"', b'"m":', b'"m":[', b'"m":[[', b'"m":[[-', b'"m":[[1e', b'"m":[["\\']
)
def test_a_text_may_end_anywhere(text: bytes) -> None:
    assert all(isinstance(found, Broken) for found in find(text, NAMES))


@pytest.fixture(autouse=True, scope="module")
def _the_code_is_there() -> None:
    reading.warm_up()


@pytest.mark.parametrize("after", ["", "\n", " \t"])
def test_a_matrix_is_read_to_its_end(after: str) -> None:
    rows = np.random.default_rng(0).normal(size=(200, 3))
    found = reading.matrix((json.dumps(rows.tolist()) + after).encode())
    assert found is not None
    np.testing.assert_array_equal(found, rows)


@pytest.mark.parametrize("last", ["[1, 2]]", "[1, 2, null]]", "3]", "[1, 2, 3]", "[1, 2, 3]]x", '[1, 2, 3]], "b": 1'])
def test_other_texts_are_no_matrix(last: str) -> None:
    rows = "[" + "[1, 2, 3]," * 100
    assert reading.matrix((rows + "[1, 2, 3]]").encode()) is not None
    assert reading.matrix((rows + last).encode()) is None
