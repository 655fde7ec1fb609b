"""JSON bodies over HTTP: large ones are parsed beside the event loop, with the same answers as small ones."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson
import pytest
from starlette.testclient import TestClient

from service.formats.json_numbers import reading
from service.web import json_body
from service.web.json_parsing import parse
from tests.service.http import assert_problem

JSON = {"content-type": "application/json"}
# Twice as many numbers as one body on the event loop has.
COUNT = json_body.INLINE_BYTES // 9


def body(**changes: Any) -> bytes:
    """A reparameterization of COUNT numbers, about four times INLINE_BYTES long."""
    ones = [1.125] * COUNT
    return json.dumps({"mu": ones, "sigma": ones, "grad_z": ones, "noise": ones} | changes).encode()


def test_other_requests_are_answered_while_a_large_body_is_parsed(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, answered = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert answered.wait(60)
        return parse(*arguments)

    monkeypatch.setattr(json_body, "parse", slow)
    with ThreadPoolExecutor(1) as pool:
        large = pool.submit(client.post, "/vae/reparam-grad", content=body(), headers=JSON)
        assert begun.wait(60)
        assert client.get("/livez").status_code == 200
        answered.set()
        response = large.result(60)
    assert response.status_code == 200
    assert response.json()["z"] == [1.125 + 1.125 * 1.125] * COUNT


@pytest.mark.parametrize("looks", [0, 3])
def test_a_large_body_waits_for_the_compiled_reader_and_its_fault_is_named(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    assert reading.is_ready()
    waiting = iter([False] * looks)
    monkeypatch.setattr(reading, "is_ready", lambda: next(waiting, True))
    wrong = [1.0] * (COUNT - 1) + ["x"]
    problem = assert_problem(client.post("/vae/reparam-grad", content=body(mu=wrong, foo=1), headers=JSON), 422)
    assert [error["pointer"] for error in problem["errors"]] == [f"/mu/{COUNT - 1}", "/foo"]
    cut = body()[:-9]
    problem = assert_problem(client.post("/vae/reparam-grad", content=cut, headers=JSON), 400)
    assert problem["detail"].endswith(f"EOF while parsing a list at line 1 column {len(cut)}")


def test_without_the_compiled_reader_a_small_body_is_answered_and_a_large_one_is_refused(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "is_ready", lambda: False)
    monkeypatch.setattr(json_body, "MAX_WAIT_SECONDS", 0.1)
    response = client.post("/vae/reparam-grad", content=body(), headers=JSON)
    assert_problem(response, 503)
    assert int(response.headers["retry-after"]) > 0
    assert_problem(client.post("/vae/reparam-grad", content=body(), headers=JSON | {"X-Timeout-Seconds": "0.01"}), 504)
    assert client.post("/vae/kl", content='{"q": {"mu": [0.0], "sigma": [1.0]}}', headers=JSON).status_code == 200


def test_a_large_body_in_parts_is_read_as_a_whole(client: TestClient) -> None:
    text = body()
    parts = iter([text[:7], text[7:100_000], b"", text[100_000:]])
    whole = client.post("/vae/reparam-grad", content=text, headers=JSON)
    assert whole.status_code == 200
    assert client.post("/vae/reparam-grad", content=parts, headers=JSON).content == whole.content


def test_a_large_answer_has_the_bytes_of_its_numbers_and_their_length(client: TestClient) -> None:
    values = np.random.default_rng(0).normal(size=(300, 200))
    request = orjson.dumps(
        {"mu": values, "sigma": np.abs(values), "grad_z": values, "noise": values}, option=orjson.OPT_SERIALIZE_NUMPY
    )
    response = client.post("/vae/reparam-grad", content=request, headers=JSON)
    assert response.headers["content-type"] == "application/json"
    assert int(response.headers["content-length"]) == len(response.content)
    found = orjson.loads(response.content)
    assert response.content == orjson.dumps(found)
    assert np.array_equal(found["noise"], values)
    assert np.array_equal(found["z"], values + np.abs(values) * values)


def test_the_number_of_elements_of_a_large_body_is_limited(running: Any) -> None:
    with running(max_elements=COUNT) as client:
        assert_problem(client.post("/vae/reparam-grad", content=body(), headers=JSON), 413)
        points = np.ones((COUNT // 2, 1)).tolist()
        response = client.post("/vae/reparam-grad", content=json.dumps({"mu": points}), headers=JSON)
        assert_problem(response, 422)


def test_a_request_whose_deadline_passes_while_its_body_is_parsed_ends_then(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def endless(*_: Any) -> Any:
        ended.wait(60)

    monkeypatch.setattr(json_body, "parse", endless)
    try:
        headers = JSON | {"X-Timeout-Seconds": "0.5"}
        problem = assert_problem(client.post("/vae/reparam-grad", content=body(), headers=headers), 504)
    finally:
        ended.set()
    assert "deadline" in problem["detail"]
