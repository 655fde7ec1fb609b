"""The arrays of a JSON text: which are found, and the limits of what is examined."""

from __future__ import annotations

import json

import numpy as np
import pytest

from service.errors import MalformedBody
from service.formats.json_numbers import reading
from service.formats.json_numbers.keys import index_of, names
from service.formats.json_numbers.reading import Even, Ragged, Unwanted, Wrong, find

NAMES = names({"m": (2, 2), "s": (2, 3)}, ["kept"])
# Spaces that make an array long enough to be found.
LONG = " " * 600


def test_arrays_are_found_by_their_keys_at_any_depth() -> None:
    text = (
        f'{{"kept": [{{"m": [[1, 2], [3, 4]{LONG}]}}, 1{LONG}], "b": {{"other": [[1], {{"m": "x"}}{LONG}]}}}}'.encode()
    )
    found = find(text, NAMES)
    assert [type(array) for array in found] == [Even, Unwanted]
    array = found[0]
    assert isinstance(array, Even)
    assert np.array_equal(array.numbers, [[1, 2], [3, 4]])
    assert text[array.start : array.stop] == f"[[1, 2], [3, 4]{LONG}]".encode()


def test_keys_in_strings_are_no_keys_and_escapes_of_a_key_do_not_matter() -> None:
    assert find(f'{{"a": "\\"m\\": [[1]{LONG}]"}}'.encode(), NAMES) == []
    assert [type(array) for array in find(f'{{"\\u006d": [[1]{LONG}]}}'.encode(), NAMES)] == [Even]


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        ("[[1, 2], [3, null]", Wrong),
        ("[[1, 2], [3]", Ragged),
        ("[[[1]], [[2], [3]]", Ragged),
        ('[[1, 2], [{"a": [1]}, 4]', Wrong),
        ('[[1, 2], ["\\n", 4]', Wrong),
        ('[[1, 2], ["é", 4]', Wrong),
    ],
)
def test_faults_are_told_apart(array: str, kind: type) -> None:
    assert [type(found) for found in find(f'{{"s": {array}{LONG}]}}'.encode(), NAMES)] == [kind]


def test_a_text_with_more_numbers_than_its_commas_allow_is_read_within_its_buffer() -> None:
    with pytest.raises(MalformedBody):
        find(f'"m":[[1{LONG}]]'.encode() * 1000, NAMES)


@pytest.mark.parametrize(
    "text",
    [b"", b'"', b"{", b'{"', b'{"m"', b'{"m":', b'{"m":[', b'{"m":[[', b'{"m":[[-', b'{"m":[[1e', b'{"m":[["\\'],
)
def test_a_text_may_end_anywhere(text: bytes) -> None:
    with pytest.raises(MalformedBody, match=r"EOF while parsing"):
        find(text, NAMES)


@pytest.fixture(autouse=True, scope="module")
def _the_code_is_there() -> None:
    reading.warm_up()


@pytest.mark.parametrize("after", ["", "\n", " \t"])
def test_a_whole_text_is_read_by_its_name(after: str) -> None:
    rows = np.random.default_rng(0).normal(size=(200, 3))
    (found,) = find((json.dumps(rows.tolist()) + after).encode(), NAMES, root=index_of("m", NAMES))
    assert isinstance(found, Even)
    np.testing.assert_array_equal(found.numbers, rows)
    assert find((json.dumps(rows.tolist()) + after).encode(), NAMES, root=index_of("kept", NAMES)) == []


@pytest.mark.parametrize("last", ["[1, 2, 3]", "[1, 2, 3]]x", '[1, 2, 3]], "b": 1'])
def test_a_whole_text_ends_with_its_array(last: str) -> None:
    with pytest.raises(MalformedBody, match="Invalid JSON"):
        find(("[" + "[1, 2, 3]," * 100 + last).encode(), NAMES, root=index_of("m", NAMES))
