"""Requests with and without API keys."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.app import Application, create_app
from service.errors import InvalidInput
from service.runtime.caller import CALLER
from service.settings import Settings
from service.web import auth, keys
from service.web.dispatch import Dispatch
from service.web.edge import Edge
from tests.service.conftest import Running
from tests.service.http import assert_problem, scope

SECRETS = {name: keys.new_secret() for name in ("alice", "slow", "busy", "gan", "later")}
OPTIONS: dict[str, list[str]] = {
    "slow": ["rate=0.001", "burst=2"],
    "busy": ["concurrency=1"],
    "gan": ["paths=/gan,/v2/models"],
}
PROBES = ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/v2/models/em/ready")


def write(file: Path, *names: str) -> None:
    file.write_text("".join(keys.line_of(SECRETS[name], name, OPTIONS.get(name, [])) + "\n" for name in names))


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {SECRETS[name]}"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("keys") / "keys"
    write(file, "alice", "slow", "busy", "gan")
    return file


@pytest.fixture(scope="module")
def guarded(running: Running, file: Path) -> Iterator[TestClient]:
    with running(api_keys_file=file) as client:
        yield client


def assert_unauthorized(answer: Any) -> None:
    assert assert_problem(answer, 401)["type"] == "urn:latentserve:problem:unauthorized"
    assert answer.headers["www-authenticate"].startswith('Bearer realm="latentserve"')


def test_every_route_but_the_open_ones_needs_a_key(guarded: TestClient) -> None:
    """Also routes that are added later, because the layer knows the open ones alone."""
    app: Any = guarded.app
    routes = {(route.path.replace("{name}", "em"), method) for route in app.all_routes() for method in route.methods}
    assert len(routes) > 25
    for path, method in routes:
        answer = guarded.request(method, path)
        if path in PROBES or path in {"/openapi.json", "/docs", "/redoc"}:
            assert answer.status_code == 200
        elif method == "HEAD":
            assert answer.status_code == 401
        else:
            assert_unauthorized(answer)
    assert {(path, "GET") for path in PROBES} < routes


@pytest.mark.parametrize(
    "path", ["/nothing", "/livez/", "/v2/models/em", "//livez", "/livez%2F..", "/v2/models/a/b/ready/x", "/"]
)
def test_what_is_not_a_route_needs_a_key_too(guarded: TestClient, path: str) -> None:
    assert_unauthorized(guarded.get(path))


@pytest.mark.parametrize(
    "value",
    [
        "", "Bearer", "Bearer ", "Bearer  ", "Basic {key}", "{key}", "Bearer {key}x", "Bearer x{key}", "Bearer {upper}",
        "Bearer Bearer {key}", "Bearer {key} {key}", "Bearer {key},", 'Bearer "{key}"', "Bearer\t{key}", "Bearer é",
        "Bearer {digest}",
    ],
)  # fmt: skip
def test_a_header_without_a_valid_key_is_refused_and_not_quoted(guarded: TestClient, value: str) -> None:
    secret = SECRETS["alice"]
    digest = keys.line_of(secret, "a").partition(":")[2]
    text = value.format(key=secret, upper=secret.upper(), digest=digest)
    answer = guarded.get("/vae/encoder-size?dimension=2", headers={b"authorization": text.encode("latin-1")})
    assert_unauthorized(answer)
    assert secret not in answer.text + str(answer.headers)


def test_two_headers_are_refused(guarded: TestClient) -> None:
    headers = [("Authorization", f"Bearer {SECRETS[name]}") for name in ("alice", "alice")]
    assert_unauthorized(guarded.get("/vae/encoder-size?dimension=2", headers=headers))


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
def test_a_valid_key_is_let_through(guarded: TestClient, client: TestClient, scheme: str) -> None:
    path = "/gan/generate?seed=1&format=json"
    answer = guarded.get(path, headers={"Authorization": scheme + SECRETS["alice"]})
    assert answer.content == client.get(path).content


def test_a_body_without_a_key_is_not_read(guarded: TestClient) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        raise AssertionError("the body is read")

    async def send(message: Any) -> None:
        sent.append(message)

    app: Any = guarded.app
    for name, status in ((None, 401), ("gan", 403)):
        given = [(b"authorization", f"Bearer {SECRETS[name]}".encode())] if name else []
        asyncio.run(app(scope("/vae/kl", [(b"content-length", b"1000"), *given]), receive, send))
        assert sent[0]["status"] == status
        assert (b"connection", b"close") in sent[0]["headers"]
        sent.clear()


def test_a_key_opens_only_its_paths(guarded: TestClient) -> None:
    assert guarded.get("/gan/generate?seed=1", headers=bearer("gan")).status_code == 200
    assert guarded.get("/v2/models/em", headers=bearer("gan")).status_code == 200
    for path in ("/vae/encoder-size?dimension=2", "/metrics", "/v2", "/nothing"):
        answer = guarded.get(path, headers=bearer("gan"))
        problem = assert_problem(answer, 403)
        assert problem["type"] == "urn:latentserve:problem:forbidden"
        assert "/gan, /v2/models" in problem["detail"]
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


def test_beyond_its_rate_a_key_must_wait_as_long_as_the_answer_says(guarded: TestClient) -> None:
    answers = [guarded.get("/vae/encoder-size?dimension=2", headers=bearer("slow")) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    problem = assert_problem(answers[2], 429)
    assert problem["type"] == "urn:latentserve:problem:too-many-requests"
    assert "0.001 requests per second, and 2 at once" in problem["detail"]
    assert 0 < int(answers[2].headers["retry-after"]) <= 1000
    # Other keys, and requests that need none, are not affected.
    assert guarded.get("/vae/encoder-size?dimension=2", headers=bearer("alice")).status_code == 200
    assert guarded.get("/livez", headers=bearer("slow")).status_code == 200


@pytest.mark.parametrize("end", ["answered", "failed", "cancelled"])
def test_beyond_its_concurrency_a_key_must_wait_until_a_request_ends(guarded: TestClient, end: str) -> None:
    app: Any = guarded.app
    headers = [(b"authorization", f"Bearer {SECRETS['busy']}".encode())]

    async def status(path: str, receive: Any) -> int:
        statuses: list[int] = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await app(scope(path, headers), receive, send)
        return statuses[0] if statuses else 0

    async def run() -> list[int]:
        body, reading = asyncio.get_running_loop().create_future(), asyncio.Event()

        async def receive() -> Any:
            reading.set()
            return {"type": "http.request", "body": await body, "more_body": False}

        held = asyncio.create_task(status("/vae/kl", receive))
        await reading.wait()
        during = await status("/nothing", receive)
        if end == "cancelled":
            held.cancel()
        elif end == "failed":
            body.set_exception(OSError("the connection is lost"))
        else:
            body.set_result(b"{")
        await asyncio.wait([held])
        return [during, await status("/nothing", receive)]

    assert asyncio.run(run()) == [429, 404]


@pytest.mark.parametrize("checkpoint", [False, True])
def test_no_answer_lets_a_shared_cache_give_it_to_callers_without_a_key(guarded: TestClient, checkpoint: bool) -> None:
    """RFC 9111, 3.5: a cache may do so only if the answer says `public`, `must-revalidate` or `s-maxage`."""
    digest = guarded.get("/gan/generate?seed=1", headers=bearer("gan")).headers["x-checkpoint"]
    path = "/gan/generate?seed=1" + (f"&checkpoint={digest}" if checkpoint else "")
    answer = guarded.get(path, headers=bearer("gan"))
    assert ("immutable" in answer.headers["cache-control"]) is checkpoint
    assert not {"public", "must-revalidate", "s-maxage"} & set(re.split(r"[=, ]+", answer.headers["cache-control"]))
    assert_unauthorized(guarded.get(path, headers={"If-None-Match": answer.headers["etag"]}))


def test_the_caller_is_the_key(guarded: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(*_: object) -> object:
        seen.append(CALLER.get())
        raise ValueError

    monkeypatch.setattr("service.vae.routes.encoder_size", look)
    assert guarded.get("/vae/encoder-size?dimension=2", headers=bearer("alice")).status_code == 500
    assert seen == ["key:alice"]


def test_the_door_tells_callers_apart_by_their_keys_and_others_by_their_addresses(guarded: TestClient) -> None:
    app: Any = guarded.app
    keyed = scope("/vae/kl", [(b"authorization", f"Bearer {SECRETS['alice']}".encode())])
    assert app.parts.door.caller(keyed) == "key:alice"
    assert app.parts.door.caller(scope("/vae/kl", [(b"authorization", b"Bearer alice")])) == "peer:y"


def test_the_log_names_the_key_by_its_id_and_nothing_tells_the_key_itself(
    guarded: TestClient, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = keys.new_secret()
    texts = []
    for secret in (SECRETS["alice"], wrong):
        headers = {"Authorization": f"Bearer {secret}"}
        for path in ("/vae/encoder-size?dimension=2", "/gan/generate?count=0", "/nothing", "/metrics"):
            answer = guarded.get(path, headers=headers)
            texts += [answer.text, str(answer.headers)]
    logged = capfd.readouterr().err
    lines = [line for line in map(json.loads, logged.splitlines()) if line["event"] == "request"]
    assert [line.get("key") for line in lines] == ["alice"] * 4 + [None] * 4
    assert [line["status"] for line in lines] == [200, 422, 404, 200, 401, 401, 401, 401]
    for secret in (SECRETS["alice"], wrong):
        assert secret not in "".join(texts) + logged


def test_a_changed_file_is_read_within_a_second_and_a_bad_one_changes_nothing(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys"
    write(file, "alice")
    now = time.monotonic()
    with running(api_keys_file=file) as client:

        def later() -> list[int]:
            """The statuses for two keys, a second later."""
            nonlocal now
            now += auth.LOOK_SECONDS
            return [client.get("/v2", headers=bearer(name)).status_code for name in ("alice", "later")]

        monkeypatch.setattr("service.web.auth.time.monotonic", lambda: now)
        assert later() == [200, 401]
        write(file, "alice", "later")
        assert later() == [200, 200]
        write(file, "later")
        assert later() == [401, 200]
        file.write_text("nonsense\n")
        assert later() == [401, 200]
        file.unlink()
        assert later() == [401, 200]
        write(tmp_path / "new", "alice")
        (tmp_path / "new").replace(file)
        assert later() == [200, 401]
        file.write_text("# no keys\n")
        assert later() == [401, 401]


def test_with_a_bad_file_the_service_does_not_start(checkpoints: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("alice secret\n")
    with pytest.raises(InvalidInput, match=r"line 1: .*new-key"):
        create_app(Settings(checkpoints=checkpoints, device="cpu", api_keys_file=file))


def layers(app: Application) -> list[type]:
    """The kinds of the application's own layers, from the outside."""
    found: list[type] = []
    layer: Any = app._entry
    while type(layer) in {Edge, auth.Guard, Dispatch}:
        found.append(type(layer))
        layer = getattr(layer, "app", None) or layer._app
    return found


def test_without_a_file_there_is_no_layer_and_the_document_names_no_scheme(
    client: TestClient, guarded: TestClient
) -> None:
    open_app: Any = client.app
    guarded_app: Any = guarded.app
    assert layers(open_app) == [Edge, Dispatch]
    assert layers(guarded_app) == [Edge, auth.Guard, Dispatch]
    text = client.get("/openapi.json").text
    assert "securitySchemes" not in text
    assert '"401"' not in text


def test_the_document_says_what_needs_a_key_and_is_else_the_same(client: TestClient, guarded: TestClient) -> None:
    document, plain = guarded.get("/openapi.json").json(), client.get("/openapi.json").json()
    assert document["components"].pop("securitySchemes") == {
        auth.SCHEME: {"type": "http", "scheme": "bearer", "description": "an API key of this service"}
    }
    assert document.pop("security") == [{auth.SCHEME: []}]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            is_open = path.replace("{name}", "em") in PROBES
            assert operation.pop("security", None) == ([] if is_open else None)
            if not is_open:
                for status, header in (
                    ("401", "WWW-Authenticate"),
                    ("403", "WWW-Authenticate"),
                    ("429", "Retry-After"),
                ):
                    answer = operation["responses"].pop(status)
                    assert {header, "X-Request-Id", "X-Latentserve-Version"} == answer["headers"].keys()
    assert document == plain


def test_behind_a_prefix_the_same_paths_are_open(running: Running, file: Path) -> None:
    with running(api_keys_file=file, root_path="/models/digits") as client:
        for prefix in ("", "/models/digits"):
            assert client.get(prefix + "/livez").status_code == 200
            assert_unauthorized(client.get(prefix + "/metrics"))
            assert client.get(prefix + "/gan/generate?seed=1", headers=bearer("gan")).status_code == 200
            assert client.get(prefix + "/metrics", headers=bearer("gan")).status_code == 403
        assert_unauthorized(client.get("/models/digits/models/digits/livez"))
