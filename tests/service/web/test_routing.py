"""Requests that no endpoint accepts: unknown paths and parameters, media types, and timeouts."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from tests.service.conftest import Running
from tests.service.http import assert_problem, conversation


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v2/models/nothing", 404),
        ("PUT", "/gan/generate", 405),
        ("GET", "/em/register", 405),
    ],
)
def test_routing_errors_are_problems(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert_problem(response, status)
    if status == 405:
        allowed = set(response.headers["allow"].split(", "))
        assert method not in allowed
        assert allowed


def test_the_allow_header_lists_all_methods_of_a_path(client: TestClient) -> None:
    assert client.put("/gan/generate").headers["allow"] == "GET, HEAD, POST"


def test_a_path_with_a_trailing_slash_is_another_path(client: TestClient) -> None:
    assert_problem(client.post("/vae/kl/", json={}, follow_redirects=False), 404)


def test_unknown_and_repeated_query_parameters_are_refused(client: TestClient) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/v2", "/gan/generate?seed=1", "/vae/encoder-size?dimension=1"):
        problem = assert_problem(client.get(path + ("&" if "?" in path else "?") + "nonsense=1"), 422)
        assert problem["errors"][0]["pointer"] == "/nonsense"
    for path in ("/gan/generate?seed=1&seed=2", "/vae/encoder-size?dimension=2&dimension=2"):
        assert assert_problem(client.get(path), 422)["errors"][0]["allowed"] == "one value"


def test_unknown_parameters_are_listed_with_the_errors_of_the_others(client: TestClient) -> None:
    problem = assert_problem(client.get("/gan/generate?seed=-1&count=0&digit=11&foo=1&scale=2&scale=0"), 422)
    pointers = [error["pointer"] for error in problem["errors"]]
    assert sorted(pointers) == ["/count", "/digit", "/foo", "/scale", "/seed"]
    assert all(error["allowed"] for error in problem["errors"])
    assert problem["detail"].endswith("(and 4 more)")
    posted = assert_problem(client.post("/gan/generate", json={"seed": -1, "count": 0, "digit": 11, "foo": 1}), 422)
    assert {error["pointer"] for error in posted["errors"]} == {"/seed", "/count", "/digit", "/foo"}


@pytest.mark.parametrize("text", ["1_0", "%2B5", "%205", "5.0", "5x", ""])
def test_numbers_in_a_query_string_must_be_written_as_in_json(client: TestClient, text: str) -> None:
    (error,) = assert_problem(client.get(f"/vae/encoder-size?dimension={text}"), 422)["errors"]
    assert (error["pointer"], error["allowed"]) == ("/dimension", "an integer")


def test_leading_zeros_are_allowed_in_a_query_string(client: TestClient) -> None:
    plain = client.get("/vae/encoder-size?dimension=7")
    assert client.get("/vae/encoder-size?dimension=007").content == plain.content


@pytest.mark.parametrize("charset", ["utf-16", "latin-1", "ISO-8859-1", "'x", '"utf-16le"', "é"])
def test_json_in_another_charset_than_utf_8_is_a_415(client: TestClient, charset: str) -> None:
    headers = [(b"content-type", f"application/json; charset={charset}".encode("latin-1"))]
    answer = client.post("/vae/kl", content=b'{"q": {"mu": [0], "sigma": [1]}}', headers=headers)
    (error,) = assert_problem(answer, 415)["errors"]
    assert error["pointer"] == "/Content-Type"


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf8", "utf-8; x=1"])
def test_utf_8_may_be_declared(client: TestClient, charset: str) -> None:
    headers = {"content-type": f"application/json; charset={charset}"}
    assert client.post("/vae/kl", content=b'{"q": {"mu": [0], "sigma": [1]}}', headers=headers).status_code == 200


def test_errors_of_a_body_have_a_pointer_and_what_is_allowed(client: TestClient) -> None:
    json_headers, form = {"content-type": "application/json"}, {"content-type": "multipart/form-data; boundary=x"}
    for answer in (
        client.post("/vae/kl", content=b"{", headers=json_headers),
        client.post("/em/register", content=b"--y", headers=form),
    ):
        (error,) = assert_problem(answer, 400)["errors"]
        assert error["pointer"] == ""
        assert error["allowed"]
    logistic = {"x": [1.0], "w": [1.0], "y": 1, "q": 2}
    (error,) = assert_problem(client.post("/vae/kl", json=logistic), 422)["errors"]
    assert error["pointer"] == "/q"
    assert error["allowed"]


def test_invalid_json_is_a_400_and_another_media_type_a_415(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    assert_problem(client.post("/vae/kl", content=b'{"q": ', headers=headers), 400)
    assert_problem(client.post("/vae/kl", content=b"", headers=headers), 400)
    problem = assert_problem(client.post("/vae/kl", data={"q": "1"}), 415)
    assert problem["errors"][0]["allowed"] == ["application/json"]


def test_compressed_bodies_are_refused(client: TestClient) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert_problem(client.post("/vae/kl", content=b"{}", headers=headers), 415)


def test_a_body_of_too_many_elements_is_refused_before_it_is_parsed(running: Running) -> None:
    with running(max_elements=1000) as client:
        many = {"x": [0.0] * 1100, "w": [0.0] * 10, "y": 0}
        problem = assert_problem(client.post("/vae/kl", json=many), 413)
        assert "1000 elements" in problem["errors"][0]["allowed"]
        few = {"x": [0.0] * 400, "w": [0.0] * 400, "y": 0}
        assert client.post("/vae/kl", json=few).status_code == 200


def test_an_invalid_timeout_header_is_refused(client: TestClient) -> None:
    for bad in ("0", "-1", "nan", "inf", "soon", "1e9", "1_0", "+5"):
        problem = assert_problem(client.get("/gan/generate?seed=1", headers={"X-Timeout-Seconds": bad}), 422)
        assert problem["errors"][0]["pointer"] == "/X-Timeout-Seconds"
    assert client.get("/gan/generate?seed=1", headers={"X-Timeout-Seconds": "30"}).status_code == 200


def test_errors_of_the_timeout_header_state_the_cause(client: TestClient) -> None:
    def detail(*values: str) -> str:
        headers = [("X-Timeout-Seconds", value) for value in values]
        problem = assert_problem(client.get("/livez", headers=headers), 422)
        assert problem["errors"][0]["pointer"] == "/X-Timeout-Seconds"
        return str(problem["detail"])

    assert "'abc', which is not a number of seconds" in detail("abc")
    assert "out of range" in detail("0")
    assert "given 2 times" in detail("1", "2")


def test_the_deadline_runs_from_the_first_byte(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu"))
    whole = {"type": "http.request", "body": b'{"q": {"mu": [0], "sigma": [1]}}', "more_body": False}
    sent = conversation(app, [whole], [(b"x-timeout-seconds", b"1e-9")])
    assert sent[0]["status"] == 504
    assert app.parts.health.batchers["vae"].predicted_wait() == 0  # it was never queued


def test_a_body_that_does_not_arrive_before_the_deadline_is_a_504(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu"))
    half = {"type": "http.request", "body": b'{"q":', "more_body": True}
    sent = conversation(app, [half], [(b"x-timeout-seconds", b"0.05")])
    assert sent[0]["status"] == 504
    form = (b"content-type", b"multipart/form-data; boundary=x")
    sent = conversation(
        app, [half | {"body": b"--x\r\n"}], [form, (b"x-timeout-seconds", b"0.05")], "/gan/discriminate"
    )
    assert sent[0]["status"] == 504


def test_a_deadline_that_passes_is_a_504_and_a_full_queue_a_503(running: Running) -> None:
    with running(queue_items=1) as client:
        release, entered = threading.Event(), threading.Event()
        batcher = client.app.parts.gan.lanes["gan"]  # type: ignore[attr-defined]
        worker = batcher._worker

        def slow(jobs: list[Any]) -> Any:
            entered.set()
            assert release.wait(120)
            return worker(jobs)

        batcher._worker = slow
        # Requests with scores, because the event loop itself would run a batch of plain images.
        answers: list[Any] = []
        threads = [threading.Thread(target=lambda: answers.append(client.get("/gan/generate?seed=1&scores=true")))]
        threads[0].start()
        assert entered.wait(60)
        deadline = time.monotonic() + 60
        while batcher.predicted_wait() > 0:  # else the service refuses the next request at once, with a 503
            assert time.monotonic() < deadline
            time.sleep(0.001)
        late = client.get("/gan/generate?seed=2&scores=true", headers={"X-Timeout-Seconds": "0.05"})
        assert "X-Timeout-Seconds: 0.05" in assert_problem(late, 504)["detail"]
        threads.append(threading.Thread(target=lambda: answers.append(client.get("/gan/generate?seed=3&scores=true"))))
        threads[1].start()
        deadline = time.monotonic() + 60
        while not batcher._queue.items:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        full = client.get("/gan/generate?seed=4&scores=true")
        assert_problem(full, 503)
        assert int(full.headers["retry-after"]) >= 1
        release.set()
        for thread in threads:
            thread.join(60)
        assert [response.status_code for response in answers] == [200, 200]
