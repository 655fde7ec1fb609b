"""What a JSON body may cost: bodies of any content are refused, or read, in a few times their bytes of memory."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.testclient import TestClient

from service.em.schemas.registration import RegisterBatchRequest, RegisterRequest
from service.errors import BodyTooLarge, LatentserveError, MalformedBody
from service.formats.json_numbers import reading, refusals, walking
from service.web.json_parsing import parse
from tests.service.http import assert_problem

SIZE = 4 << 20
# Besides the body: a number takes eight bytes for two of text, and all that is no array of numbers is bounded.
MOST = 5 * SIZE + (24 << 20)
JSON = {"content-type": "application/json"}


def source(items: str, size: int = SIZE) -> str:
    """A registration whose source has the items, repeated up to `size` bytes."""
    return f'{{"source":[{(items + ",") * (size // (len(items) + 1))}[1,2]],"target":[[0,0]]}}'


def problems(items: str, size: int = SIZE) -> str:
    return f'{{"problems":[{(items + ",") * (size // (len(items) + 1))}{items}]}}'


def nested(depth: int, opening: str, closing: str) -> str:
    return opening * depth + "0" + closing * depth


# Bodies whose objects would take up to 130 times their bytes.
BODIES: dict[str, Callable[[], str]] = {
    "arrays 150 deep": lambda: source(nested(150, "[", "]")),
    "arrays 28 deep": lambda: source(nested(28, "[", "]")),
    "objects 28 deep": lambda: source(nested(28, '{"a":', "}")),
    "empty arrays": lambda: source("[]"),
    "empty arrays as problems": lambda: problems("[]"),
    "numbers as problems": lambda: problems("0"),
    "small problems": lambda: problems('{"source":[[0,0]],"target":[[0,0]]}'),
    "small objects": lambda: source('{"x":1,"y":2}'),
    "distinct keys": lambda: "{" + ",".join(f'"{key}":0' for key in range(SIZE // 10)) + "}",
    "keys of many objects": lambda: problems("{" + ",".join(f'"{key}":0' for key in range(60)) + "}"),
    "repeated keys": lambda: "{" + ",".join(['"source":[[0,0]]'] * (SIZE // 17)) + "}",
    "a long string": lambda: f'{{"source":"{"a" * SIZE}"}}',
    "a long string beyond 16 bits": lambda: f'{{"source":["😀{"a" * SIZE}"]}}',
    "escapes": lambda: source('["\\u00e9\\n"]'),
    "short strings": lambda: source('"ab"'),
    "a long key": lambda: f'{{"{"a" * SIZE}":1}}',
    "a long number": lambda: source("9" * SIZE),
    "numbers of 1,000 digits": lambda: source(f"[1.{'3' * 1000},1]"),
    "ragged rows": lambda: source("[1,2],[1]"),
    "numbers": lambda: source("[1,2]"),
    "a fault at the end": lambda: source("[1,2]") + ",",
    "an unknown array": lambda: source("[1,2]").replace("source", "foo"),
    "an array alone": lambda: "[" + "[1,2]," * (SIZE // 6) + "[1,2]]",
    "white space": lambda: "{" + " " * SIZE + "}",
    "opening brackets": lambda: "[" * SIZE,
    "quotes": lambda: '"' * SIZE,
}


@pytest.fixture(autouse=True, scope="module")
def _the_code_is_there() -> None:
    reading.warm_up()


@pytest.fixture
def peak() -> Iterator[Callable[[], int]]:
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.mark.parametrize("name", BODIES)
def test_any_body_takes_a_few_times_its_bytes(name: str, peak: Callable[[], int]) -> None:
    for model in (RegisterRequest, RegisterBatchRequest):
        text = memoryview(BODIES[name]().encode())
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        with suppress(LatentserveError, RequestValidationError):
            parse(text, model)
        assert peak() - before < MOST
        del text


def refusal(text: str, model: type[BaseModel] = RegisterRequest) -> Any:
    with pytest.raises(LatentserveError) as refused:
        parse(text.encode(), model)
    return refused.value


def test_the_depth_is_bounded_and_the_error_points_to_the_first_array_that_is_too_deep() -> None:
    deepest = walking.MAX_DEPTH - 1  # in the object of the body
    with pytest.raises(RequestValidationError):
        parse(f'{{"foo":{nested(deepest, "[", "]")}{" " * 3000}}}'.encode(), RegisterRequest)
    for size in (0, 3000):
        error = refusal(f'{{"foo":[1,{nested(deepest, "[", "]")}]{" " * size}}}')
        assert isinstance(error, MalformedBody)
        assert error.pointer == "/foo/1" + "/0" * (deepest - 1)
        assert error.allowed == f"at most {walking.MAX_DEPTH} arrays and objects within one another"


@pytest.mark.parametrize(
    ("item", "most", "what"),
    [
        ("0", refusals.MAX_BYTES, "bytes"),
        ("[]", refusals.MAX_CONTAINERS, "objects and arrays"),
        ('{"a":1}', refusals.MAX_KEYS, "keys"),
    ],
)
def test_text_besides_arrays_of_numbers_is_bounded_and_the_error_points_to_most_of_it(
    item: str, most: int, what: str
) -> None:
    count = most // (len(item) + 1) if what == "bytes" else most
    error = refusal(f'{{"foo":1,"problems":[{",".join([item] * (count + 100))}]}}', RegisterBatchRequest)
    assert isinstance(error, BodyTooLarge)
    assert error.pointer == "/problems"
    assert error.allowed == f"at most {most:,} {what} besides arrays of numbers"
    parse(f'{{"problems":[{",".join([item] * 1000)}]}}'.encode(), RegisterBatchRequest)


def test_the_keys_of_one_object_are_bounded_and_the_error_points_to_the_first_beyond() -> None:
    members = [f'"k{key}":{"0" * (key == 0) or key * 10**40}' for key in range(walking.MAX_KEYS_OF_ONE + 1)]
    error = refusal(f'{{"source":[[0],{{{",".join(members)}}}]}}')
    assert error.pointer == f"/source/1/k{walking.MAX_KEYS_OF_ONE}"
    with pytest.raises(RequestValidationError):
        parse(f'{{"source":[[0],{{{",".join(members[:-1])}}}]}}'.encode(), RegisterRequest)


def test_the_digits_of_a_number_are_bounded_and_the_error_shows_its_first_ones() -> None:
    error = refusal(f'{{"source":[[1],[{"12" * 2000}]]}}')
    assert isinstance(error, BodyTooLarge)
    assert error.pointer == "/source/1/0"
    assert "begins 12121212121212121212" in error.detail


def test_a_key_twice_within_an_array_of_numbers_is_refused_where_it_is() -> None:
    error = refusal(f'{{"source":[{"[1,2]," * 1000}[1,{{"a":1,"\\u0061":2}}]]}}')
    assert (error.pointer, error.allowed) == ("/source/1000/1/a", "every key once")


def test_a_thousand_small_problems_are_within_the_bounds() -> None:
    one = json.dumps({"source": [[0, 0], [1, 0], [0, 2]] * 2, "target": [[5, 7], [6, 7], [5, 9]] * 2, "sigma": 0.5})
    assert len(parse(problems(one, 1023 * (len(one) + 1)).encode(), RegisterBatchRequest).problems) == 1024


def test_refusals_are_problems_with_a_pointer(client: TestClient) -> None:
    deep = client.post("/em/register", content=source(nested(40, "[", "]"), 9000), headers=JSON)
    assert assert_problem(deep, 400)["errors"][0]["pointer"].startswith("/source/0/0/0")
    large = client.post("/em/register", content=f'{{"foo":"{"a" * (2 << 20)}"}}', headers=JSON)
    assert assert_problem(large, 413)["errors"][0]["pointer"] == "/foo"
    with_text = client.post("/em/register", files={"source": ("a.csv", b"0,0\n")}, data={"sigma": "1" * (1 << 18)})
    assert assert_problem(with_text, 413)["errors"][0]["pointer"] == "/sigma"
    form = {"source": (None, "[" + "[]," * (1 << 18) + "[1,2]]"), "target": (None, "[[0,0]]")}
    assert assert_problem(client.post("/em/register", files=form), 422)["errors"][0]["pointer"].startswith("/source/0")
