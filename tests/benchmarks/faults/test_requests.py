"""Fuzzed requests: reproducible, and mostly valid enough to reach an engine."""

from __future__ import annotations

import json
import random

from benchmarks.faults.encoding import encoded, joined, split
from benchmarks.faults.forms import malformed
from benchmarks.faults.fuzz import request
from benchmarks.faults.mutation import damaged
from benchmarks.faults.trees import mutated
from benchmarks.faults.valid import Draft, draft
from benchmarks.serving.connection import Answer
from service.em.schemas.registration import RegisterRequest


def test_a_request_is_the_same_in_every_run_and_framed_ones_declare_their_length() -> None:
    for number in range(300):
        found = request(7, number)
        assert found == request(7, number)
        head, _, body = found.request.partition(b"\r\n\r\n")
        if found.is_framed:
            assert head.endswith(b"\r\ncontent-length: %d" % len(body))
            assert b"x-timeout-seconds: " in head
    assert len({request(7, number).request for number in range(300)}) > 290
    assert request(8, 1) != request(7, 1)


def test_a_request_does_not_depend_on_those_that_were_made_before() -> None:
    numbers = range(3000)
    forwards = [request(15, number) for number in numbers]
    assert [request(15, number) for number in reversed(numbers)] == forwards[::-1]


def test_registrations_are_valid_before_their_mutation() -> None:
    rng = random.Random(1)
    drafts = [found for found in (draft(rng) for _ in range(400)) if found.path == "/em/register"]
    assert len(drafts) > 100
    for found in drafts:
        RegisterRequest.model_validate_json(json.dumps(found.fields))


def test_a_mutation_changes_a_copy() -> None:
    rng = random.Random(2)
    changed = 0
    for _ in range(200):
        fields = draft(rng).fields
        before = json.dumps(fields)
        changed += repr(mutated(fields, rng, 0.5)) != repr(fields)
        assert json.dumps(fields) == before
    assert changed > 150


def test_damage_depends_on_its_generator_alone() -> None:
    data = bytes(range(256)) * 4
    found = [damaged(data, random.Random(seed)) for seed in range(100)]
    assert found == [damaged(data, random.Random(seed)) for seed in range(100)]
    assert len(set(found)) > 90
    assert isinstance(damaged(b"", random.Random(0)), bytes)


def test_splitting_and_joining_a_request_gives_it_back() -> None:
    plain = encoded(Draft("POST", "/vae/kl", {"a": [1.0]}), random.Random(0), plain=True)
    assert joined(*split(plain)) == plain
    assert plain.endswith(b'content-length: 12\r\n\r\n{"a": [1.0]}')


def test_answers_of_a_wrong_form_are_found() -> None:
    def found(status: int, kind: bytes, body: bytes) -> str:
        return malformed(Answer(status, b"http/1.1 200 ok\r\ncontent-type: " + kind, body))

    problem = b"application/problem+json"
    assert not found(200, b"application/json", b"[1.5]")
    assert not found(200, b"image/png", b"NaN")
    assert not found(422, problem, b'{"status": 422}')
    assert not found(504, problem, b'{"status": 504}')
    assert found(500, problem, b'{"status": 500}')
    assert found(422, problem, b'{"status": 400}')
    assert found(422, b"text/plain", b"{}")
    assert found(200, b"application/json", b"[NaN]")
    assert found(200, b"application/json", b'{"results": [{"status": 500}]}')
    assert not found(200, b"application/json", b'{"results": [{"status": 504}, {"scale": 1}]}')
