"""The headers of every answer of the running service, whatever the route and the error."""

from __future__ import annotations

from collections.abc import Iterator
from http.client import HTTPConnection

import httpx2
import pytest

from service.version import VERSION
from service.web.heads import POLICY, POLICY_HEADER
from tests.e2e.conftest import Live

PAGES = ("/docs", "/redoc")


def assert_fixed_headers(answer: httpx2.Response) -> None:
    found = {name: answer.headers.get_list(name) for name in ("x-content-type-options", "referrer-policy")}
    assert found == {"x-content-type-options": ["nosniff"], "referrer-policy": ["no-referrer"]}
    assert answer.headers.get_list("x-latentserve-version") == [VERSION]
    (policy,) = answer.headers.get_list("content-security-policy")
    if answer.url.path in PAGES and answer.is_success:
        assert policy.startswith("default-src 'none'; script-src https://")
    else:
        assert policy == POLICY


def requests(document: dict[str, dict[str, dict[str, object]]]) -> Iterator[tuple[str, str]]:
    """A method and a path for each endpoint, for HEAD, and for the pages that are no endpoints."""
    for path, operations in document["paths"].items():
        for method in operations:
            yield method.upper(), path.replace("{name}", "gan")
            if method == "get":
                yield "HEAD", path.replace("{name}", "vae")
    for page in (*PAGES, "/openapi.json"):
        yield "GET", page


def test_every_route_has_them(live: Live) -> None:
    with httpx2.Client(base_url=live.address, timeout=60) as client:
        found = list(requests(client.get("/openapi.json").json()))
        assert len(found) > 30
        statuses = set()
        for method, path in found:
            answer = client.request(method, path)
            statuses.add(answer.status_code)
            assert_fixed_headers(answer)
    assert {200, 415, 422} <= statuses


@pytest.mark.parametrize(
    ("method", "path", "status", "headers", "body"),
    [
        ("GET", "/nothing", 404, {}, b""),
        ("GET", "/v2/models/nothing", 404, {}, b""),
        ("PUT", "/gan/generate", 405, {}, b""),
        ("OPTIONS", "/em/register", 405, {}, b""),
        ("GET", "/gan/generate?count=0", 422, {}, b""),
        ("POST", "/vae/kl", 400, {"content-type": "application/json"}, b"{"),
        ("POST", "/vae/kl", 415, {"content-type": "text/html"}, b"<script>"),
        ("GET", "/gan/generate?seed=1", 431, {"x-filler": "y" * 70_000}, b""),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, (str, int)) else "",
)
def test_every_error_has_them(
    live: Live, method: str, path: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    answer = httpx2.request(method, live.address + path, headers=headers, content=body or None, timeout=60)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert_fixed_headers(answer)


def test_an_answer_that_comes_too_late_has_them(live: Live) -> None:
    headers = {"x-timeout-seconds": "0.0000001"}
    answer = httpx2.get(f"{live.address}/gan/generate?seed=1", headers=headers, timeout=60)
    assert answer.status_code in {503, 504}  # 503 if the service predicts it, because others ask too much
    assert_fixed_headers(answer)


def test_a_body_that_is_refused_before_it_is_sent_has_them(live: Live) -> None:
    connection = HTTPConnection(live.address.removeprefix("http://"), timeout=60)
    connection.putrequest("POST", "/vae/kl")
    for name, value in (("content-type", "application/json"), ("content-length", str(10**12))):
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert answer.headers.get_all(POLICY_HEADER) == [POLICY]
    assert answer.headers.get_all("x-content-type-options") == ["nosniff"]
    connection.close()
