"""The short way to an endpoint gives the same answers as the framework's."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import parse_qsl

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from service.web import routing
from service.web.dispatch import Dispatch
from service.web.routing import StrictRoute
from tests.service.conftest import Running

REQUESTS = [
    ("GET", "/livez"),
    ("HEAD", "/livez"),
    ("GET", "/livez?x=1"),
    ("GET", "/livez/"),
    ("PUT", "/livez"),
    ("GET", "/v2/models/gan"),
    ("GET", "/v2/models/none"),
    ("GET", "/gan/generate?seed=1"),
    ("GET", "/gan/generate?seed=1&seed=2"),
    ("GET", "/gan/generate?seed=x&digits=%31&lens=1"),
    ("GET", "/vae/encoder-size?dimension=2&covariance=full"),
    ("GET", "/vae/encoder-size?dimension=2&&covariance=full&"),
    ("GET", "/vae/encoder-size?dimension"),
    ("POST", "/vae/encoder-size"),
    ("POST", "/vae/kl"),
    ("GET", "/nothing"),
]


@pytest.fixture(scope="module")
def framework(running: Running) -> Iterator[TestClient]:
    """The application without the short way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatch, "_route", lambda *_: None)
        with running() as client:
            yield client


@pytest.mark.parametrize(("method", "path"), REQUESTS)
@pytest.mark.parametrize("timeout", [None, "5", "0", "soon"])
def test_both_ways_give_the_same_answer(
    client: TestClient, framework: TestClient, method: str, path: str, timeout: str | None
) -> None:
    headers = {"x-request-id": "same"} | ({} if timeout is None else {"x-timeout-seconds": timeout})
    short, long = (one.request(method, path, headers=headers) for one in (client, framework))
    assert (short.status_code, short.content) == (long.status_code, long.content)
    assert short.headers == long.headers


def test_every_endpoint_without_parameters_in_its_path_has_the_short_way(client: TestClient) -> None:
    routes = client.app.all_routes()  # type: ignore[attr-defined]
    fixed = {(method, route.path) for route in routes if isinstance(route, StrictRoute) and "{" not in route.path
             for method in route.methods or ()}  # fmt: skip
    assert {("GET", "/gan/generate"), ("POST", "/em/register")} <= fixed
    assert Dispatch(client.app, routes)._routes.keys() == fixed


@given(st.text("ab=&%+2 ;/?é", max_size=12))
def test_a_query_string_is_split_as_the_general_parser_splits_it(text: str) -> None:
    request = Request({"type": "http", "query_string": text.encode(), "headers": []})
    assert routing._pairs(request) == parse_qsl(text.encode().decode("latin-1"), keep_blank_values=True)
