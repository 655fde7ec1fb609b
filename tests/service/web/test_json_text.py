"""JSON bodies: byte order marks, other encodings, and repeated keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.errors import MalformedBody
from service.formats.json_numbers import reading
from service.web.json_text import as_utf8, refuse_repeated_keys

GOOD = '{"q": {"mu": [0.0], "sigma": [1.0]}}'
# Strings that look like JSON's structure, and keys that need escapes.
TEXTS = st.sampled_from(["", "a", "b", "ab", '"', "\\", "{", "}", "[", '":', "é", "/", "~", "\\u0061", "\n"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)


def pointer_of_repetition(text: str) -> str:
    with pytest.raises(MalformedBody) as refusal:
        refuse_repeated_keys(text.encode())
    return refusal.value.pointer


@pytest.fixture(autouse=True, scope="module", params=[True, False])
def _compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test here runs with the compiled reader and without it."""
    reading.warm_up()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "is_ready", lambda: request.param)
        yield


@given(value=VALUES, ascii_only=st.booleans(), indent=st.sampled_from([None, 1]))
def test_json_of_a_dictionary_has_no_repeated_key(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    refuse_repeated_keys(text)


@given(outer=st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4), data=st.data())
def test_a_key_written_twice_is_found_with_its_pointer(outer: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(outer)))
    members = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in outer.items()]
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in key)
    again = f'"{escaped}" : {json.dumps(data.draw(VALUES))}'
    text = "{" + ", ".join(data.draw(st.permutations([*members, again]))) + "}"
    step = "/" + key.replace("~", "~0").replace("/", "~1")
    assert pointer_of_repetition(text) == step
    assert pointer_of_repetition(f'{{"x": {{"y": {text}}}}}') == "/x/y" + step
    assert pointer_of_repetition(f'{{"z": [1], "x": [{{"a": {{}}}}, {{}}, {text}]}}') == "/x/2" + step
    assert pointer_of_repetition(f"[{{}}, {text}]") == "/1" + step


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"a": 1}, "b": {"a": 1}}',
        '{"a": [{"b": 1}, {"b": 1}]}',
        '{"a": "a", "b": "a"}',
        '{"a": "\\"a\\":", "b": "{\\"a\\": 1, \\"a\\": 1}"}',
        "3", "[]", "{}", '"a"',
    ],
)  # fmt: skip
def test_equal_keys_of_different_objects_and_equal_values_are_not_repeated_keys(text: str) -> None:
    refuse_repeated_keys(text.encode())


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ('{"q": {"mu": [0.0], "sigma": [1.0]}, "q": {"mu": [0.0], "sigma": [1.0]}}', "/q"),
        ('{"q": {"mu": [0.0], "sigma": [1.0], "mu": [9.0]}}', "/q/mu"),
        ('{"q": {"mu": [0.0], "sigma": [1.0], "\\u006du": "nonsense"}}', "/q/mu"),
    ],
)
def test_a_repeated_key_is_a_400_that_points_to_it(client: TestClient, body: str, pointer: str) -> None:
    response = client.post("/vae/kl", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]


def test_a_repeated_key_in_one_problem_of_a_batch_points_into_it(client: TestClient) -> None:
    one = '{"source": [[0, 0], [1, 0], [0, 2]], "target": [[5, 9], [5, 7], [6, 7]], "sigma": 0.1}'
    two = one.replace('"sigma"', '"target": [[0, 0]], "sigma"')
    body = f'{{"problems": [{one}, {two}]}}'
    response = client.post("/em/register/batch", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert response.json()["errors"][0]["pointer"] == "/problems/1/target"


def test_a_byte_order_mark_changes_nothing(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    with_mark = client.post("/vae/kl", content=GOOD.encode("utf-8-sig"), headers=headers)
    assert with_mark.status_code == 200
    assert with_mark.content == client.post("/vae/kl", content=GOOD, headers=headers).content


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_other_encodings_are_refused_by_name(client: TestClient, encoding: str) -> None:
    headers = {"content-type": "application/json"}
    response = client.post("/vae/kl", content=GOOD.encode(encoding), headers=headers)
    assert response.status_code == 400
    assert encoding[:6].upper() in response.json()["detail"]
    assert "UTF-8" in response.json()["detail"]


@given(VALUES)
def test_utf8_stays_unchanged(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False).encode()
    assert as_utf8(text) == text == as_utf8(b"\xef\xbb\xbf" + text)
