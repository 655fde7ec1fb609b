"""JSON bodies whose arrays are read by compiled code: the same instances and the same errors as by pydantic alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from service.em.schemas.registration import RegisterBatchRequest, RegisterRequest
from service.em.schemas.steps import ExpectationRequest, LogLikelihoodRequest
from service.em.wire import errors_beside as em_beside
from service.errors import MalformedBody
from service.formats.json_numbers import reading
from service.formats.json_numbers.refusals import Text
from service.gan.schemas import GenerateRequest
from service.gan.uploads import DiscriminateRequest, InvertRequest
from service.vae.schemas import KLRequest, ReparameterizeRequest
from service.vae.schemas import errors_beside as vae_beside
from service.web import json_parsing, json_reduction
from service.web.json_parsing import parse, parse_whole
from service.web.problems import object_of_validation

MODELS = (
    RegisterRequest, RegisterBatchRequest, ExpectationRequest, LogLikelihoodRequest, KLRequest, ReparameterizeRequest,
    GenerateRequest, DiscriminateRequest, InvertRequest,
)  # fmt: skip
BESIDE: dict[type[BaseModel], Any] = {RegisterRequest: em_beside, ReparameterizeRequest: vae_beside}
# Parts of bodies: numbers in all forms, what is no number, and what is no JSON.
NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**25), 10**25).map(str),
    st.sampled_from(["0", "-0", "-0.0", "1E5", "2e-3", "0.1250", "1e-400", "9007199254740993.00000000000000000000"]),
)
OTHERS = st.sampled_from(
    ["null", "true", '"x"', '"é"', '"\\u0041"', "[]", "[[]]", "[1]", "[[2, 3]]", "{}", '{"a": [1]}', '{"a": 1, "a": 1}',
     "1e999", "NaN", "-Infinity", "9" * 320, "01", "1.", "+1", "-", "tru", "", "[1,]", '"'],
)  # fmt: skip
# Numbers within half a unit in the last place of others that have fewer digits, near a limit and elsewhere.
LONG = [
    "1000.00000000000005684341886080801486968994140626", "1000.00000000000005684341886080801486968994140624",
    "5000.0000000000004547473508864641189575195312500001", "-12.000000000000000888178419700125232338905334472657",
]  # fmt: skip
SPACES = st.sampled_from(["", "", "", " ", "\n", "\r\n\t "])
KEYS = (
    "source", "target", "init", "prior", "matrix", "rotation", "translation", "problems", "at", "sigma", "include",
    "foo", "assignment", "mu", "log_variance", "softplus", "scale_tril", "grad_z", "noise", "q", "p", "x", "w", "y",
    "images", "latents", "scores", "count", "prior_weight",
)  # fmt: skip


@st.composite
def arrays(draw: st.DrawFn, rank: int, wrong: bool) -> str:
    """The text of an array, mostly even."""
    if rank == 0:
        return draw(OTHERS if wrong and draw(st.integers(0, 15)) == 0 else NUMBERS)
    size = draw(st.integers(1, 4))
    if wrong and draw(st.integers(0, 20)) == 0:
        return draw(OTHERS)
    return join(draw, [draw(arrays(rank - 1, wrong)) for _ in range(size)])


def join(draw: st.DrawFn, items: list[str], brackets: str = "[]") -> str:
    space = draw(SPACES)
    return brackets[0] + space + f"{space},{space}".join(items) + space + brackets[1]


@st.composite
def even(draw: st.DrawFn, *shape: int) -> str:
    """The text of an array of one shape."""
    if not shape:
        return draw(NUMBERS)
    return join(draw, [draw(even(*shape[1:])) for _ in range(shape[0])])


@st.composite
def levels(draw: st.DrawFn, wrong: bool) -> str:
    """A body with images or latents, whose numbers are mostly in range."""
    name, good, bad = draw(
        st.sampled_from(
            [
                (
                    "images",
                    st.integers(0, 255).map(str),
                    ["256", "-1", "1.0", "1e1", "-0", "1E0", "25500000000000000000"],
                ),
                (
                    "latents",
                    st.floats(-1000, 1000).map(repr),
                    ["1000", "-1000.0", "1000.0000000000001", "-1001", "1e4"],
                ),
            ]
        )
    )
    odd = st.sampled_from([*bad, *LONG])
    size = draw(st.sampled_from([128, 28, 32]))
    rows = [[draw(good)] * size for _ in range(draw(st.sampled_from([1, 2, size])))]
    if wrong:
        rows[-1][draw(st.integers(0, size - 1))] = draw(OTHERS | odd)
        rows[0][draw(st.integers(0, size - 1))] = draw(odd)
    array = "[" + ",".join(f"[{','.join(row)}]" for row in rows) + "]"
    array = draw(st.sampled_from([array, f"[{array}]", f"[{array}, {array}]"]))
    others = st.sampled_from(["", ', "scores": true', ', "scores": "true"', ', "prior_weight": 2', ', "foo": []'])
    return f'{{"{name}": {array}{draw(others)}}}'


@st.composite
def objects(draw: st.DrawFn, depth: int = 0) -> str:
    """An object with keys of the schemas and values of any kind."""
    members = []
    for key in draw(st.lists(st.sampled_from(KEYS), max_size=6)):
        kind = draw(st.integers(0, 9))
        if kind == 0:
            value = draw(OTHERS)
        elif kind < 3 and depth < 2:
            value = draw(objects(depth + 1))
            if key == "problems":
                value = join(draw, [value, draw(objects(depth + 1))])
        else:
            value = draw(arrays(draw(st.integers(1, 4)), draw(st.booleans())))
        members.append(f"{json.dumps(key)}{draw(SPACES)}:{draw(SPACES)}{value}")
    return join(draw, members, "{}")


@st.composite
def requests(draw: st.DrawFn, wrong: bool) -> str:
    """A body that mostly fits the schema of a registration, a step, a batch, a divergence or a reparameterization."""
    n, m, d = (draw(st.integers(1, 3)) for _ in range(3))
    kind = draw(st.integers(0, 5))

    def value(*shape: int) -> str:
        return draw(arrays(len(shape), True)) if wrong and draw(st.booleans()) else draw(even(*shape))

    fields = {"source": value(n, d), "target": value(m, d)}
    if kind == 0:
        fields["init"] = draw(st.sampled_from([value(d), f'{{"matrix": {value(d + 1, d + 1)}}}', '"anneal"', "3"]))
        fields["prior"] = draw(st.sampled_from([value(n, m), '"free"', "[]"]))
    elif kind == 1:
        fields |= {"sigma": value(), "at": f'{{"translation": {value(d)}, "sigma": 1, "prior": {value(n, m)}}}'}
    elif kind == 2:
        fields |= {"sigma": "0.5", "assignment": value(n, m)}
    elif kind == 3:
        fields = {"x": value(n, d), "w": value(d), "y": value(n)}
    elif kind == 4:
        scale = draw(st.sampled_from(["sigma", "scale_tril", "softplus"]))
        shape = (n, d, d) if scale == "scale_tril" else (n, d)
        fields = {"mu": value(n, d), scale: value(*shape), "grad_z": value(n, d), "noise": value(d)}
    else:
        fields = {"q": f'{{"mu": {value(d)}, "sigma": {value(d)}}}'}
    text = join(draw, [f'"{key}": {value}' for key, value in fields.items()], "{}")
    return f'{{"problems": [{text}, {text}]}}' if draw(st.integers(0, 5)) == 0 else text


@pytest.fixture(autouse=True, scope="module")
def _all_arrays_are_long() -> Iterator[None]:
    reading.warm_up()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "LEAST_BYTES", 2)
        patch.setattr(json_parsing, "LEAST_BYTES", 2)
        patch.setattr(json_reduction, "_LONGEST_PART", 6)
        patch.setattr(json_reduction, "_BLOCK", 5)
        yield


def plain(value: object) -> object:
    """A value in which equality is that of bits."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, BaseModel):
        return type(value), {name: plain(found) for name, found in value}, value.model_fields_set
    if isinstance(value, dict):
        return {key: plain(found) for key, found in value.items()}
    return [plain(found) for found in value] if isinstance(value, list) else repr(value)


def outcome(read: Callable[..., BaseModel], text: Text, model: type[BaseModel]) -> object:
    """The instance, or the answer that describes the error."""
    try:
        found = read(text, model, BESIDE.get(model))
    except MalformedBody as error:
        return error.detail, error.pointer, error.allowed
    except RequestValidationError as error:
        return object_of_validation(error.errors(), [*model.model_fields])
    if isinstance(found, RegisterBatchRequest):
        return [outcome_of_problem(problem) for problem in found.problems]
    return plain(found)


def outcome_of_problem(problem: Any) -> object:
    """What the endpoint of batches makes of one problem."""
    try:
        return plain(RegisterRequest.model_validate(problem))
    except ValueError as error:
        return object_of_validation(error.errors(include_url=False), [])  # type: ignore[attr-defined]


def assert_same(text: str | bytes) -> None:
    encoded = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    for model in MODELS:
        assert outcome(parse, memoryview(encoded), model) == outcome(parse_whole, encoded, model), (model, encoded)


@settings(max_examples=400, deadline=None)
@given(requests(wrong=False))
def test_a_valid_body_is_the_same_instance(text: str) -> None:
    assert_same(text)


@settings(max_examples=400, deadline=None)
@given(requests(wrong=True))
def test_a_body_with_faults_in_its_arrays_has_the_same_errors(text: str) -> None:
    assert_same(text)


@settings(max_examples=300, deadline=None)
@given(levels(wrong=False) | levels(wrong=True))
def test_arrays_of_numbers_in_a_range_have_the_same_instance_or_errors(text: str) -> None:
    assert_same(text)


@pytest.mark.parametrize("scores", ["true", '"true"', '"false"', "1"])
def test_a_flag_of_a_body_is_a_boolean(scores: str) -> None:
    latents = [[0.5] * 128]
    assert_same(f'{{"latents": {latents}, "scores": {scores}}}')


@settings(max_examples=300, deadline=None)
@given(objects())
def test_any_object_has_the_same_errors(text: str) -> None:
    assert_same(text)


@settings(max_examples=400, deadline=None)
@given(
    requests(wrong=True),
    st.integers(0, 10**6),
    st.integers(0, 3),
    st.sampled_from(["", ",", "]", "[", "}", "{", '"', "0", "-", ".", "e", " ", "\n", "\\", "x", "\x00", ":", "é"]),
)
def test_a_damaged_text_has_the_same_error_at_the_same_place(text: str, place: int, cut: int, insert: str) -> None:
    place %= len(text) + 1
    assert_same(text[:place] + insert + text[place + cut :])
    assert_same(text[:place])
