"""Laws of the choice of latents: the stream of the seed, the first candidate that passes, and batch invariance."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from service.gan import sampling
from service.gan.choosing import (
    CHUNK_ROWS,
    MAX_CHUNKS,
    MAX_TRIES,
    Choice,
    ChoiceRequest,
    choose,
    screen,
)
from service.gan.companions import Companions
from service.gan.passes import local
from tests.service.gan.conftest import judge, keep_with, make_companions, networks

CPU = torch.device("cpu")
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)]
KINDS = list(product([1.0, 0.6], [None, 3], [False, True]))


def pick(requests: list[ChoiceRequest], companions: Companions, device: torch.device = CPU) -> list[Choice]:
    passes = local(*networks(), device, companions)
    assert passes.judge is not None
    return choose(requests, companions, passes.draw, passes.judge)


def same(one: Choice, other: Choice) -> bool:
    return one.latent.tobytes() == other.latent.tobytes() and one[1:] == other[1:]


@pytest.mark.parametrize("device", DEVICES)
def test_a_choice_is_the_same_alone_and_in_any_batch(device: torch.device) -> None:
    companions = make_companions()
    requests = [
        ChoiceRequest(seed, image, truncation, digit, rejection)
        for seed, image in ((7, 0), (7, 1), (2**63 - 1, 63))
        for truncation, digit, rejection in KINDS
    ]
    alone = [pick([request], companions, device)[0] for request in requests]
    order = np.random.default_rng(0).permutation(len(requests))
    together = pick([requests[place] for place in order], companions, device)
    assert all(same(choice, alone[place]) for choice, place in zip(together, order, strict=True))


def test_if_every_candidate_passes_the_plain_latent_is_chosen() -> None:
    companions = keep_with(make_companions(), 0.0)._replace(thresholds=(0.0,) * 10)
    for truncation, digit, rejection in KINDS:
        choices = pick([ChoiceRequest(5, image, truncation, digit, rejection) for image in range(3)], companions)
        assert np.array_equal([choice.latent for choice in choices], sampling.latents(5, 3, truncation))
        assert all(choice.accepted and choice.attempts == 1 for choice in choices)


@pytest.mark.parametrize("truncation", [1.0, 0.6])
def test_with_a_digit_the_first_candidate_that_passes_is_chosen(truncation: float) -> None:
    companions = make_companions()._replace(thresholds=(0.13,) * 10)
    seen = set()
    for image in range(12):
        (choice,) = pick([ChoiceRequest(3, image, truncation, 4)], companions)
        rows = sampling.normals(3, image).standard_normal((20 * CHUNK_ROWS, 128), np.float32) * np.float32(truncation)
        scores = np.concatenate([screen(companions, chunk)[:, 4] for chunk in np.split(rows, 20)])
        first = int(np.flatnonzero(scores >= 0.13)[0])
        assert choice.accepted
        assert choice.attempts == first + 1
        assert np.array_equal(choice.latent, rows[first])
        seen.add(first)
    assert len(seen) > 3


def test_if_no_latent_passes_the_most_likely_one_is_chosen_and_not_accepted() -> None:
    companions = make_companions()._replace(thresholds=(2.0,) * 10)
    (choice,) = pick([ChoiceRequest(3, 0, 1.0, 4)], companions)
    rows = sampling.normals(3, 0).standard_normal((MAX_CHUNKS * CHUNK_ROWS, 128), np.float32)
    scores = np.concatenate([screen(companions, chunk)[:, 4] for chunk in np.split(rows, MAX_CHUNKS)])
    assert (choice.accepted, choice.attempts) == (False, len(rows))
    assert np.array_equal(choice.latent, rows[scores.argmax()])
    (choice,) = pick([ChoiceRequest(3, 0, 1.0, 4, rejection=True)], companions)
    assert not choice.accepted
    assert np.array_equal(choice.latent, rows[scores.argmax()])


@pytest.mark.parametrize("rejection", [False, True])
@pytest.mark.parametrize("digit", [None, 4])
def test_a_cancelled_choice_ends_and_does_not_affect_the_others(digit: int | None, rejection: bool) -> None:
    hopeless = keep_with(make_companions(), -1e4)._replace(thresholds=(2.0 if digit is not None else 0.1,) * 10)
    polls: list[None] = []

    def after_three() -> bool:
        polls.append(None)
        return len(polls) > 3

    patient = [ChoiceRequest(3, image, 1.0, digit, rejection) for image in range(2)]
    impatient = ChoiceRequest(3, 5, 1.0, digit, rejection, after_three)
    before, cancelled, after = pick([patient[0], impatient, patient[1]], hopeless)
    assert all(same(one, other) for one, other in zip((before, after), pick(patient, hopeless), strict=True))
    if digit is not None or rejection:
        assert polls
        assert not cancelled.accepted
        assert cancelled.attempts <= 6 * CHUNK_ROWS


def test_after_64_tries_the_candidate_with_the_highest_score_is_chosen() -> None:
    companions = make_companions()
    companions.critic.offsets.sub_(1000)
    (choice,) = pick([ChoiceRequest(3, 1, rejection=True)], companions)
    rows = sampling.normals(3, 1).standard_normal((MAX_TRIES, 128), np.float32)
    assert (choice.accepted, choice.attempts) == (False, MAX_TRIES)
    assert np.array_equal(choice.latent, rows[judge(companions, rows).argmax()])


def test_with_constant_acceptance_the_number_of_tries_is_geometric() -> None:
    companions = keep_with(make_companions(), float(np.log(0.25)))
    attempts = [
        choice.attempts for choice in pick([ChoiceRequest(seed, 0, rejection=True) for seed in range(400)], companions)
    ]
    # Mean 4, standard deviation sqrt(12): four standard errors of 400.
    assert abs(np.mean(attempts) - 4) < 4 * np.sqrt(12 / 400)
    assert np.mean(np.equal(attempts, 1)) == pytest.approx(0.25, abs=0.09)


def test_rejection_raises_the_mean_score_of_the_critic() -> None:
    companions = make_companions()

    def mean_log(rejection: bool) -> float:
        choices = pick([ChoiceRequest(seed, 0, rejection=rejection) for seed in range(100)], companions)
        return float(judge(companions, np.stack([choice.latent for choice in choices])).mean())

    # By at least half a standard deviation; the logs have a standard deviation of 1.
    assert mean_log(True) - mean_log(False) > 0.5


def test_uniform_streams_differ_from_the_latents_and_between_images() -> None:
    streams = [sampling.uniforms(1, 0), sampling.uniforms(1, 1), sampling.uniforms(2, 0), sampling.normals(1, 0)]
    assert len({stream.random(8).tobytes() for stream in streams}) == 4
