"""Random mixtures of requests over many connections: each gets the same bytes as alone (law of batch invariance)."""

from __future__ import annotations

import random

import uvloop

from benchmarks.serving.mixtures import LARGEST, alone, mixed, pool
from tests.e2e.conftest import Live


def test_answers_in_random_mixtures_are_those_of_the_same_requests_alone(live: Live) -> None:
    requests = random.Random(1).sample(pool(), 150)
    port = int(live.address.rpartition(":")[2])
    expected = uvloop.run(alone(port, requests))
    outcome = uvloop.run(mixed(port, requests, expected, mixtures=100, seed=2))
    assert outcome.answers > LARGEST
    assert outcome.different == []

    # The comparison itself finds a difference of one bit.
    status, body, etag, kind = expected[0]
    expected[0] = status, body[:-1] + bytes([body[-1] ^ 1]), etag, kind
    outcome = uvloop.run(mixed(port, requests[:10], expected[:10], mixtures=20, seed=3))
    assert set(outcome.different) == {f"{requests[0].method} {requests[0].path}"}
