"""Every valid registration, however extreme its numbers, has an answer or a refusal: none breaks the worker."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import orjson
import pytest
from fastapi.exceptions import RequestValidationError

from benchmarks.faults.trees import mutated
from benchmarks.faults.valid import draft
from service.em import wire
from service.em.outcome import Outcome
from service.em.schemas.registration import RegisterRequest
from service.em.worker import EmWorker, registration
from service.errors import LatentserveError
from service.formats.arrays import to_json
from service.web.json_parsing import parse_whole

BATCH, BATCHES = 30, 4


def requests(seed: int) -> Iterator[RegisterRequest]:
    """Valid requests of BATCH drafts, most of them with mutated numbers."""
    rng = random.Random(seed)
    for _ in range(BATCH):
        found = draft(rng)
        while found.path != "/em/register":
            found = draft(rng)
        fields = mutated(found.fields, rng, hostile=0) if rng.random() < 0.7 else found.fields
        try:
            yield parse_whole(json.dumps(fields).encode(), RegisterRequest)
        except (LatentserveError, RequestValidationError):
            continue


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of overflows, which extreme numbers have
@pytest.mark.parametrize("seed", range(BATCHES))
def test_every_valid_registration_has_an_answer_or_a_refusal(seed: int) -> None:
    answered = 0
    for request in requests(seed):
        try:
            outcome: object = EmWorker()([registration(wire.problem(request))])[0]
        except LatentserveError:
            continue
        if isinstance(outcome, LatentserveError):
            continue
        assert isinstance(outcome, Outcome), repr(outcome)
        orjson.loads(to_json(wire.registration(outcome, request.transform)))  # refuses NaN
        answered += 1
    assert answered > BATCH / 10
