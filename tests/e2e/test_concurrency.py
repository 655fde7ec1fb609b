"""64 concurrent calls over real connections: they share batches, and each gets the same answer as alone."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPResponse

import httpx2
import pytest

from benchmarks.serving.calls import CALLS, calls
from benchmarks.serving.connection import Call
from tests.e2e.conftest import Live, Start, halted


async def send(client: httpx2.AsyncClient, call: Call) -> httpx2.Response:
    return await client.request(call.method, call.path, json=call.body)


def batched(address: str) -> dict[str, tuple[float, float]]:
    """For each engine, the number of jobs and of batches so far."""
    text = httpx2.get(f"{address}/metrics").text
    found = re.findall(r'^latentserve_batch_size_(sum|count){engine="(.*?)"} (\S+)$', text, re.MULTILINE)
    values = {(engine, name): float(value) for name, engine, value in found}
    return {engine: (values[engine, "sum"], values[engine, "count"]) for engine, _ in values}


def connect(live: Live) -> HTTPConnection:
    return HTTPConnection(live.address.removeprefix("http://"), timeout=60)


def ask(connection: HTTPConnection, call: Call) -> None:
    """Send the request. It has left this process when the function returns."""
    body = None if call.body is None else json.dumps(call.body)
    connection.request(call.method, call.path, body, {"Content-Type": "application/json"})


def answer(connection: HTTPConnection) -> tuple[HTTPResponse, bytes]:
    response = connection.getresponse()
    return response, response.read()


def together(live: Live, requests: Sequence[Call]) -> list[tuple[HTTPResponse, bytes]]:
    """The answers to requests that the service finds all at once, each on a connection of its own."""
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(connect(live))) for _ in requests]
        for connection in connections:  # the service has accepted each connection once it has answered
            ask(connection, Call("GET", "/livez"))
            assert answer(connection)[0].status == 200
        with halted(live.process):
            for connection, call in zip(connections, requests, strict=True):
                ask(connection, call)
        return [answer(connection) for connection in connections]


@pytest.mark.parametrize("endpoint", list(calls()))
def test_64_concurrent_calls_share_batches_and_get_the_same_bytes_as_alone(live: Live, endpoint: str) -> None:
    requests = calls()[endpoint]
    engine = endpoint.split("/")[1]
    apart = []
    with closing(connect(live)) as connection:
        for request in requests:
            ask(connection, request)
            response, content = answer(connection)
            assert response.status == 200
            apart.append(content)
    before = batched(live.address)[engine]
    assert [content for _, content in together(live, requests)] == apart
    after = batched(live.address)[engine]
    assert after[0] - before[0] == CALLS
    assert after[1] - before[1] < CALLS / 2


def test_seed_7_is_the_same_alone_and_among_63_others(live: Live) -> None:
    alone = httpx2.get(f"{live.address}/gan/generate?seed=7").content

    async def story() -> list[bytes]:
        async with httpx2.AsyncClient(base_url=live.address, timeout=60) as client:
            paths = [f"/gan/generate?seed={7 if place == 40 else 1000 + place}" for place in range(64)]
            return [response.content for response in await asyncio.gather(*map(client.get, paths))]

    crowd = asyncio.run(story())
    assert crowd[40] == alone
    assert len(set(crowd)) == 64


def test_bad_requests_do_not_affect_good_ones(live: Live) -> None:
    good = Call("POST", "/em/register", {"source": [[0.0], [1.0]], "target": [[5.0], [6.0]]})
    bad = [
        Call("POST", "/em/register", {"source": [[0.0], [1.0]], "target": [[5.0, 6.0]]}),
        Call("POST", "/vae/reparam-grad", {"mu": [0.0], "log_variance": [5000.0], "grad_z": [1.0]}),
        Call("GET", "/gan/generate?count=0"),
        Call("GET", "/nowhere"),
    ]
    requests = [good, *bad, good] * 8

    async def story() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(base_url=live.address, timeout=60) as client:
            return list(await asyncio.gather(*(send(client, request) for request in requests)))

    statuses = [response.status_code for response in asyncio.run(story())]
    assert statuses == [200, 422, 422, 422, 404, 200] * 8


def test_a_full_queue_answers_503_and_accepted_requests_are_answered(start: Start) -> None:
    cloud = [[float(i % 37), float(i % 41)] for i in range(300)]
    body = {"source": cloud, "target": cloud, "sigma": 1.0, "init": "identity", "tolerance": 0, "max_iterations": 400}

    with start(queue_items="4", batch_items="1", drain_seconds="0") as live:
        answers = together(live, [Call("POST", "/em/register", body)] * 30)
    answered = [content for response, content in answers if response.status == 200]
    refused = [response for response, _ in answers if response.status == 503]
    assert len(answered) + len(refused) == 30
    assert len(answered) >= 4
    assert refused
    assert len(set(answered)) == 1
    assert all(int(response.headers["retry-after"]) >= 1 for response in refused)
