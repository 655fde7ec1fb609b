"""64 concurrent calls over real connections: they share batches, and each gets the same answer as alone."""

from __future__ import annotations

import asyncio
import re

import httpx2
import pytest

from benchmarks.serving import CALLS, Call, calls
from tests.e2e.conftest import Live, Start


async def send(client: httpx2.AsyncClient, call: Call) -> httpx2.Response:
    return await client.request(call.method, call.path, json=call.body)


def batched(address: str) -> dict[str, tuple[float, float]]:
    """For each engine, the number of jobs and of batches so far."""
    text = httpx2.get(f"{address}/metrics").text
    found = re.findall(r'^latentserve_batch_size_(sum|count){engine="(.*?)"} (\S+)$', text, re.MULTILINE)
    values = {(engine, name): float(value) for name, engine, value in found}
    return {engine: (values[engine, "sum"], values[engine, "count"]) for engine, _ in values}


@pytest.mark.parametrize("endpoint", list(calls()))
def test_64_concurrent_calls_share_batches_and_get_the_same_bytes_as_alone(live: Live, endpoint: str) -> None:
    requests = calls()[endpoint]
    engine = endpoint.split("/")[1]

    async def story() -> tuple[list[bytes], list[bytes], tuple[float, float]]:
        limits = httpx2.Limits(max_connections=CALLS)
        async with httpx2.AsyncClient(base_url=live.address, limits=limits, timeout=60) as client:
            apart = [(await send(client, request)).raise_for_status().content for request in requests]
            before = batched(live.address)[engine]
            together = await asyncio.gather(*(send(client, request) for request in requests))
            after = batched(live.address)[engine]
        return apart, [response.content for response in together], (after[0] - before[0], after[1] - before[1])

    apart, together, (jobs, batches) = asyncio.run(story())
    assert together == apart
    assert jobs == CALLS
    assert batches < CALLS / 2


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

    async def story(address: str) -> list[httpx2.Response]:
        async with httpx2.AsyncClient(base_url=address, timeout=60) as client:
            return list(await asyncio.gather(*(client.post("/em/register", json=body) for _ in range(30))))

    with start(queue_items="4", batch_items="1", drain_seconds="0") as live:
        responses = asyncio.run(story(live.address))
    answered = [response for response in responses if response.status_code == 200]
    refused = [response for response in responses if response.status_code == 503]
    assert len(answered) + len(refused) == 30
    assert len(answered) >= 4
    assert refused
    assert len({response.content for response in answered}) == 1
    assert all(int(response.headers["retry-after"]) >= 1 for response in refused)
