"""Rules for every request: HEAD, body limits, request ids, the version, and unexpected errors."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.settings import Settings
from service.web import edge
from service.web.failures import REJECTED
from service.web.holding import CALLER_PART, SMALL_BODY_BYTES
from tests.service.conftest import Running
from tests.service.http import assert_problem, conversation, scope


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


def test_head_is_counted_as_head_and_refused_without_a_get(client: TestClient) -> None:
    etag = client.get("/gan/generate?seed=1").headers["etag"]
    assert client.head("/gan/generate?seed=1", headers={"if-none-match": etag}).status_code == 304
    text = client.get("/metrics").text
    assert 'latentserve_requests_total{method="HEAD",route="/gan/generate",status="304"}' in text
    refused = client.head("/em/register")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert not any("head" in operations for operations in client.get("/openapi.json").json()["paths"].values())


def test_a_body_over_the_limit_is_refused(running: Running) -> None:
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


def chunks_read(app: Any, headers: list[tuple[bytes, bytes]]) -> int:
    """The number of chunks of an endless body that the application reads before it answers with a 413."""
    read, statuses = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 1
        return {"type": "http.request", "body": b" " * 100, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    asyncio.run(app(scope("/vae/kl", headers), receive, send))
    assert statuses == [413]
    return read


def test_a_body_with_too_large_a_declared_length_is_not_read(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu", max_body_bytes=1000))
    assert chunks_read(app, [(b"content-length", b"100000")]) == 0
    assert chunks_read(app, []) == 11


def test_a_safe_request_id_is_kept_and_any_other_is_replaced(client: TestClient) -> None:
    assert client.get("/livez", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = client.get("/livez", headers={"x-request-id": 'evil"\tid'}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{16}", made)


def test_an_unexpected_error_is_a_500_problem_without_details(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running() as client:
        monkeypatch.setattr("service.vae.routes.encoder_size", lambda *_: 1 / 0)
        problem = assert_problem(client.get("/vae/encoder-size?dimension=2"), 500)
        assert "division" not in json.dumps(problem)
        assert client.get("/livez").status_code == 200


def test_a_client_that_disconnects_during_its_body_is_a_499(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu"))
    half = {"type": "http.request", "body": b'{"q":', "more_body": True}
    assert conversation(app, [half, {"type": "http.disconnect"}], []) == []
    assert 'route="/vae/kl",status="499"} 1.0' in TestClient(app).get("/metrics").text


def test_a_body_that_the_connection_rejects_counts_with_the_status_of_its_answer(checkpoints: Path) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu"))
    half = {"type": "http.request", "body": b'{"q":', "more_body": True}
    conversation(app, [half, {"type": "http.disconnect"}], [], state={REJECTED: 408})
    text = TestClient(app).get("/metrics").text
    assert 'route="/vae/kl",status="408"} 1.0' in text
    assert 'status="499"' not in text


def test_a_large_answer_is_sent_in_pieces(checkpoints: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = create_app(Settings(checkpoints=checkpoints, device="cpu"))

    def answered() -> list[dict[str, Any]]:
        sent = conversation(app, [{"type": "http.request", "body": b"{", "more_body": False}], [])
        return [message for message in sent if message["type"] == "http.response.body"]

    (whole,) = answered()
    monkeypatch.setattr(edge, "PIECE_BYTES", 50)
    pieces = answered()
    assert b"".join(piece["body"] for piece in pieces) == whole["body"]
    assert len(pieces) > 2
    assert all(len(piece["body"]) <= 50 for piece in pieces)
    assert [piece["more_body"] for piece in pieces] == [True] * (len(pieces) - 1) + [False]


class Sender:
    """A client that has sent a part of a body, and keeps the rest."""

    def __init__(self, app: Any, caller: str, size: int) -> None:
        self.sent: list[dict[str, Any]] = []
        self._first: dict[str, Any] | None = {"type": "http.request", "body": bytes(size), "more_body": True}
        self.task = asyncio.create_task(app({**scope("/vae/kl", []), "client": (caller, 1)}, self.receive, self.send))

    async def receive(self) -> dict[str, Any]:
        if self._first is None:
            await asyncio.Event().wait()
        message, self._first = self._first, None
        assert message is not None
        return message

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int | None:
        """None while the service waits for the rest."""
        return self.sent[0]["status"] if self.sent else None


def statuses(app: Any, senders: list[tuple[str, int]]) -> list[int | None]:
    """What clients, of an address and a size each, get after the first parts of their bodies."""

    async def run() -> list[int | None]:
        started = []
        for caller, size in senders:
            started.append(Sender(app, caller, size))
            for _ in range(10):
                await asyncio.sleep(0)
        found = [sender.status for sender in started]
        for sender in started:
            sender.task.cancel()
        await asyncio.gather(*(sender.task for sender in started), return_exceptions=True)
        return found

    return asyncio.run(run())


def test_who_holds_bodies_back_denies_nobody_else(checkpoints: Path) -> None:
    """One caller holds a part of the limit at most, small bodies are always taken, and all is released at the end."""
    limit = 10 * SMALL_BODY_BYTES
    app = create_app(Settings(checkpoints=checkpoints, device="cpu", max_inflight_bytes=limit))
    most = int(CALLER_PART * limit)
    attackers = [("1.1.1.1", most), ("1.1.1.1", SMALL_BODY_BYTES + 1), ("1.1.1.1", SMALL_BODY_BYTES)]
    others = [("2.2.2.2", most), ("3.3.3.3", SMALL_BODY_BYTES + 1), ("3.3.3.3", SMALL_BODY_BYTES)]
    for _ in range(2):
        assert statuses(app, attackers + others) == [None, 503, None, None, 503, None]
    assert statuses(app, [("1.1.1.1", 3 * limit), ("2.2.2.2", 100)]) == [None, None]  # one is taken, however large
