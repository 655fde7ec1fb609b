"""The API behind a reverse proxy that strips a path prefix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.app import create_app
from service.errors import InvalidInput
from service.settings import Settings
from tests.service.conftest import Running

ROOT = "/models/digits"


@pytest.fixture(scope="module")
def proxied(running: Running) -> Iterator[TestClient]:
    with running(root_path=ROOT) as client:
        yield client


def test_the_documentation_pages_load_the_document_below_the_prefix(proxied: TestClient) -> None:
    for path in ("/docs", "/redoc"):
        assert f"{ROOT}/openapi.json" in proxied.get(path).text


def test_the_document_names_the_prefix_as_its_one_server(proxied: TestClient, client: TestClient) -> None:
    document, plain = proxied.get("/openapi.json").json(), client.get("/openapi.json").json()
    assert document.pop("servers") == [{"url": ROOT}]
    assert document == plain
    assert proxied.app.openapi()["servers"] == [{"url": ROOT}]  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["/livez", "/gan/generate?seed=1&format=npy", "/v2/models/gan", "/vae/kl"])
def test_answers_are_the_same_with_and_without_the_prefix(proxied: TestClient, client: TestClient, path: str) -> None:
    body = {"json": {"q": {"mu": [0.0], "sigma": [1.0]}}} if path == "/vae/kl" else {}
    method = "POST" if body else "GET"
    expected = client.request(method, path, **body)  # type: ignore[arg-type]
    assert expected.status_code == 200
    for prefix in ("", ROOT):
        assert proxied.request(method, prefix + path, **body).content == expected.content  # type: ignore[arg-type]


def test_errors_name_the_paths_that_the_client_sees(proxied: TestClient) -> None:
    for prefix in ("", ROOT):
        missing = proxied.get(prefix + "/nothing")
        assert missing.status_code == 404
        assert missing.json()["detail"].startswith(f"no endpoint has the path {ROOT}/nothing; {ROOT}/openapi.json ")
        refused = proxied.put(prefix + "/gan/generate")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
        assert f" {ROOT}/gan/generate;" in refused.json()["detail"]


def test_the_prefix_alone_is_not_doubled_in_the_error(proxied: TestClient) -> None:
    assert proxied.get(ROOT).json()["detail"].startswith(f"no endpoint has the path {ROOT};")


def test_metrics_name_routes_without_the_prefix(proxied: TestClient) -> None:
    proxied.get(f"{ROOT}/livez")
    text = proxied.get("/metrics").text
    assert 'route="/livez"' in text
    assert ROOT not in text


@pytest.mark.parametrize("root_path", ["/gan", "/v2", "/livez", "/docs", "/em/v1"])
def test_a_prefix_that_begins_with_a_path_of_the_service_is_refused(checkpoints: Path, root_path: str) -> None:
    with pytest.raises(InvalidInput, match="LATENTSERVE_ROOT_PATH"):
        create_app(Settings(checkpoints=checkpoints, device="cpu", root_path=root_path))


def test_a_prefix_that_only_resembles_a_path_of_the_service_is_not_refused(checkpoints: Path) -> None:
    create_app(Settings(checkpoints=checkpoints, device="cpu", root_path="/gans"))


def test_a_prefix_in_a_header_changes_nothing(client: TestClient) -> None:
    plain = client.get("/docs")
    assert client.get("/docs", headers={"X-Forwarded-Prefix": "/elsewhere"}).content == plain.content
