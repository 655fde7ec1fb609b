"""What holds for every endpoint: problem+json, limits, request ids, probes, the document."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service import errors
from service.app import create_app
from service.errors import CheckpointError
from service.gan import checkpoint
from service.settings import Settings
from service.version import VERSION
from tests.service.conftest import Running


def assert_problem(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert {"type", "title", "status", "detail", "errors"} <= problem.keys()
    assert problem["detail"]
    return problem


def test_every_domain_error_has_a_row_in_the_table() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 8
    for kind in kinds:
        assert any(parent in errors.HTTP_STATUS for parent in kind.__mro__)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v2/models/nothing", 404),
        ("PUT", "/gan/generate", 405),
        ("GET", "/em/register", 405),
    ],
)
def test_errors_of_routing_are_problems_too(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert_problem(response, status)
    if status == 405:
        allowed = set(response.headers["allow"].split(", "))
        assert method not in allowed
        assert allowed


def test_a_path_with_two_methods_names_both(client: TestClient) -> None:
    assert client.put("/gan/generate").headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    "path",
    [
        "/gan/generate?seed=1&count=9&scores=true", "/gan/generate?seed=1&format=json", "/gan/interpolate?seeds=1,2",
        "/vae/encoder-size?dimension=2", "/livez", "/readyz", "/v2", "/v2/models/gan", "/openapi.json", "/docs",
        "/gan/generate?count=0", "/nothing",
    ],
)  # fmt: skip
def test_head_has_the_status_and_the_headers_of_get(client: TestClient, path: str) -> None:
    whole, head = client.get(path), client.head(path)
    assert head.status_code == whole.status_code
    assert {**whole.headers, "x-request-id": ""} == {**head.headers, "x-request-id": ""}
    assert int(head.headers["content-length"]) == len(whole.content) > 0


def test_head_is_counted_as_head_and_refused_where_there_is_no_get(client: TestClient) -> None:
    etag = client.get("/gan/generate?seed=1").headers["etag"]
    assert client.head("/gan/generate?seed=1", headers={"if-none-match": etag}).status_code == 304
    text = client.get("/metrics").text
    assert 'latentserve_requests_total{method="HEAD",route="/gan/generate",status="304"}' in text
    refused = client.head("/em/register")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert not any("head" in operations for operations in client.get("/openapi.json").json()["paths"].values())


def test_json_that_is_none_is_a_400_and_another_media_type_a_415(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    assert_problem(client.post("/vae/kl", content=b'{"q": ', headers=headers), 400)
    assert_problem(client.post("/vae/kl", content=b"", headers=headers), 400)
    problem = assert_problem(client.post("/vae/kl", data={"q": "1"}), 415)
    assert problem["errors"][0]["allowed"] == ["application/json"]


def test_unknown_query_parameters_are_refused_everywhere(client: TestClient) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/v2", "/gan/generate?seed=1", "/vae/encoder-size?dimension=1"):
        problem = assert_problem(client.get(path + ("&" if "?" in path else "?") + "nonsense=1"), 422)
        assert problem["errors"][0]["pointer"] == "/nonsense"
    for path in ("/gan/generate?seed=1&seed=2", "/vae/encoder-size?dimension=2&dimension=2"):
        assert assert_problem(client.get(path), 422)["errors"][0]["allowed"] == "one value"


@pytest.mark.parametrize("text", ["1_0", "%2B5", "%205", "5.0", "5x", ""])
def test_numbers_in_a_query_string_are_written_as_json_has_them(client: TestClient, text: str) -> None:
    (error,) = assert_problem(client.get(f"/vae/encoder-size?dimension={text}"), 422)["errors"]
    assert (error["pointer"], error["allowed"]) == ("/dimension", "an integer")


def test_an_overlong_body_is_refused_before_it_is_read(running: Running) -> None:
    with running(max_body_bytes=1000) as client:
        sent = 0

        def body() -> Iterator[bytes]:
            nonlocal sent
            for _ in range(100):
                sent += 100
                yield b" " * 100

        problem = assert_problem(
            client.post("/vae/kl", content=b" " * 1001, headers={"content-type": "application/json"}), 413
        )
        assert "1000" in str(problem["errors"][0]["allowed"])
        assert_problem(client.post("/vae/kl", content=body(), headers={"content-type": "application/json"}), 413)
        assert_problem(client.post("/gan/discriminate", files=[("images", b"x" * 2000)]), 413)


@contextmanager
def chunks(app: Any, declared: int | None) -> Iterator[list[int]]:
    """How many chunks of an endless body the application reads before it answers; a plain ASGI conversation."""
    read = [0]
    statuses = []

    async def receive() -> dict[str, Any]:
        read[0] += 1
        return {"type": "http.request", "body": b" " * 100, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"content-type", b"application/json")]
    if declared is not None:
        headers.append((b"content-length", str(declared).encode()))
    scope = {
        "type": "http", "method": "POST", "path": "/vae/kl", "raw_path": b"/vae/kl", "query_string": b"",
        "headers": headers, "http_version": "1.1", "scheme": "http", "server": ("x", 80), "client": ("y", 1),
        "root_path": "",
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert statuses == [413]
    yield read


def test_not_one_chunk_is_read_of_a_body_that_declares_too_much(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu", max_body_bytes=1000))
    with chunks(app, declared=100_000) as read:
        assert read == [0]
    with chunks(app, declared=None) as read:
        assert read == [11]


def test_a_request_id_is_kept_if_it_is_harmless_and_made_if_not(client: TestClient) -> None:
    assert client.get("/livez", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = client.get("/livez", headers={"x-request-id": 'evil"\tid'}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{16}", made)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/livez", 200),
        ("HEAD", "/livez", 200),
        ("GET", "/metrics", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/docs", 200),
        ("GET", "/gan/generate?seed=1", 200),
        ("GET", "/gan/generate?count=0", 422),
        ("GET", "/nothing", 404),
        ("PUT", "/gan/generate", 405),
        ("POST", "/vae/kl", 415),
    ],
)
def test_every_answer_bears_the_version_once(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert response.headers.get_list("x-latentserve-version") == [VERSION]


def test_the_document_names_the_headers_of_every_answer(client: TestClient) -> None:
    for operations in client.get("/openapi.json").json()["paths"].values():
        for operation in operations.values():
            for answer in operation["responses"].values():
                assert {"X-Request-Id", "X-Latentserve-Version"} <= answer["headers"].keys()


def test_a_failure_nobody_foresaw_is_a_500_problem_that_tells_no_secrets(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running() as client:
        monkeypatch.setattr("service.vae.routes.encoder_size", lambda *_: 1 / 0)
        problem = assert_problem(client.get("/vae/encoder-size?dimension=2"), 500)
        assert "division" not in json.dumps(problem)
        assert client.get("/livez").status_code == 200


def test_readyz_is_false_until_warm_and_while_draining(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu"))
    client = TestClient(app)  # without its lifespan: never warm
    assert "warming" in assert_problem(client.get("/readyz"), 503)["detail"]
    app.parts.health.warm = True
    assert client.get("/readyz").status_code == 200
    app.parts.health.draining = True
    assert "draining" in assert_problem(client.get("/readyz"), 503)["detail"]


def test_livez_fails_when_a_worker_is_dead(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu"))
    assert "gan" in assert_problem(TestClient(app).get("/livez"), 503)["detail"]


def test_v2_tells_what_is_served(client: TestClient) -> None:
    assert client.get("/v2").json()["name"] == "latentserve"
    assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
    for name in ("em", "vae", "gan"):
        assert client.get(f"/v2/models/{name}").json()["name"] == name
        assert client.get(f"/v2/models/{name}/ready").status_code == 200


@pytest.mark.parametrize("name", [checkpoint.GENERATOR_FILE, checkpoint.DISCRIMINATOR_FILE, checkpoint.MANIFEST_FILE])
def test_the_service_refuses_to_start_on_a_missing_or_tampered_file(
    checkpoints: Path, tmp_path: Path, name: str
) -> None:
    for file in checkpoints.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = Settings(checkpoints=tmp_path, device="cpu")
    content = bytearray((tmp_path / name).read_bytes())
    content[-10] ^= 1
    (tmp_path / name).write_bytes(content)
    if name != checkpoint.MANIFEST_FILE:
        with pytest.raises(CheckpointError) as refusal:
            create_app(settings)
        assert name in refusal.value.detail
        assert checkpoint.sha256(checkpoints / name) in refusal.value.detail
        assert checkpoint.sha256(tmp_path / name) in refusal.value.detail
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        create_app(settings)


def test_metrics_show_requests_queues_batches_and_device_time(client: TestClient) -> None:
    client.get("/gan/generate?seed=1")
    text = client.get("/metrics").text
    for name in (
        'latentserve_requests_total{method="GET",route="/gan/generate",status="200"}',
        'latentserve_request_seconds_bucket{le="0.1",route="/gan/generate"}',
        'latentserve_queue_items{engine="gan"} 0.0',
        'latentserve_queue_seconds_count{engine="gan"}',
        'latentserve_batch_size_bucket{engine="gan",le="1.0"}',
        'latentserve_batch_seconds_sum{engine="gan"}',
    ):
        assert name in text
    client.get("/some/path/that/is/not/there")
    assert "/some/path" not in client.get("/metrics").text


def test_the_timeout_header_is_checked_and_kept(client: TestClient) -> None:
    for bad in ("0", "-1", "nan", "inf", "soon", "1e9", "1_0", "+5"):
        problem = assert_problem(client.get("/gan/generate?seed=1", headers={"X-Timeout-Seconds": bad}), 422)
        assert problem["errors"][0]["pointer"] == "/X-Timeout-Seconds"
    assert client.get("/gan/generate?seed=1", headers={"X-Timeout-Seconds": "30"}).status_code == 200


def test_a_deadline_that_passes_is_a_504_and_a_full_queue_a_503(running: Running) -> None:
    with running(queue_items=1) as client:
        release, entered = threading.Event(), threading.Event()
        batcher = client.app.parts.gan.lanes["gan"]  # type: ignore[attr-defined]
        worker = batcher._worker

        def slow(jobs: list[Any]) -> Any:
            entered.set()
            assert release.wait(20)
            return worker(jobs)

        batcher._worker = slow
        answers: list[Any] = []
        threads = [threading.Thread(target=lambda: answers.append(client.get("/gan/generate?seed=1")))]
        threads[0].start()
        assert entered.wait(10)
        late = client.get("/gan/generate?seed=2", headers={"X-Timeout-Seconds": "0.05"})
        assert_problem(late, 504)
        threads.append(threading.Thread(target=lambda: answers.append(client.get("/gan/generate?seed=3"))))
        threads[1].start()
        deadline = time.monotonic() + 10
        while not batcher._queued_items:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        full = client.get("/gan/generate?seed=4")
        assert_problem(full, 503)
        assert int(full.headers["retry-after"]) >= 1
        release.set()
        for thread in threads:
            thread.join(10)
        assert [response.status_code for response in answers] == [200, 200]


def test_the_document_describes_every_answer_it_refers_to(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    text = json.dumps(document)
    schemas = document["components"]["schemas"]
    for name in set(re.findall(r"#/components/schemas/(\w+)", text)):
        assert name in schemas
    assert "HTTPValidationError" not in text
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["responses"]["200"]["content"], (path, method)
            if method == "post":
                assert operation["requestBody"]["required"]
                assert {"400", "413", "415", "422"} <= operation["responses"].keys()


def test_unknown_settings_and_senseless_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        Settings(nonsense=1)  # type: ignore[call-arg]
    monkeypatch.setenv("LATENTSERVE_PORT", "65536")
    with pytest.raises(ValueError, match="port"):
        Settings()


def test_a_path_with_a_trailing_slash_is_another_path(client: TestClient) -> None:
    assert_problem(client.post("/vae/kl/", json={}, follow_redirects=False), 404)


def test_a_body_of_too_many_elements_is_refused_before_it_is_parsed(running: Running) -> None:
    with running(max_elements=1000) as client:
        many = {"x": [0.0] * 1100, "w": [0.0] * 10, "y": 0}
        problem = assert_problem(client.post("/vae/kl", json=many), 413)
        assert "1000 elements" in problem["errors"][0]["allowed"]
        few = {"x": [0.0] * 400, "w": [0.0] * 400, "y": 0}
        assert client.post("/vae/kl", json=few).status_code == 200


def test_compressed_bodies_are_refused_as_such(client: TestClient) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert_problem(client.post("/vae/kl", content=b"{}", headers=headers), 415)


def conversation(
    app: Any, messages: list[dict[str, Any]], headers: list[tuple[bytes, bytes]], path: str = "/vae/kl"
) -> list[dict[str, Any]]:
    """What `app` sends to a client that says `messages`, and then nothing more."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [*headers, (b"content-type", b"application/json")], "http_version": "1.1", "scheme": "http",
        "server": ("x", 80), "client": ("y", 1), "root_path": "",
    }  # fmt: skip
    asyncio.run(asyncio.wait_for(app(scope, receive, send), 10))
    return sent


def test_a_client_that_leaves_in_the_midst_of_its_body_is_a_499_and_no_error(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu"))
    half = {"type": "http.request", "body": b'{"q":', "more_body": True}
    assert conversation(app, [half, {"type": "http.disconnect"}], []) == []
    assert 'route="/vae/kl",status="499"} 1.0' in app.parts.health.metrics.text().decode()


def test_the_deadline_runs_from_the_first_byte(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu"))
    whole = {"type": "http.request", "body": b'{"q": {"mu": [0], "sigma": [1]}}', "more_body": False}
    sent = conversation(app, [whole], [(b"x-timeout-seconds", b"1e-9")])
    assert sent[0]["status"] == 504
    assert app.parts.health.batchers["vae"].predicted_wait() == 0  # it never came to the queue


def test_a_body_that_does_not_come_is_a_504_when_the_deadline_is_over(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu"))
    half = {"type": "http.request", "body": b'{"q":', "more_body": True}
    sent = conversation(app, [half], [(b"x-timeout-seconds", b"0.05")])
    assert sent[0]["status"] == 504
    form = (b"content-type", b"multipart/form-data; boundary=x")
    sent = conversation(
        app, [half | {"body": b"--x\r\n"}], [form, (b"x-timeout-seconds", b"0.05")], "/gan/discriminate"
    )
    assert sent[0]["status"] == 504
