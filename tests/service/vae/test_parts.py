"""Large jobs are computed in parts, which changes no bit of a result, and no error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from service.errors import InvalidInput
from service.vae import parts
from service.vae.gaussian_kl import GaussianPair
from service.vae.logistic import LabelledPoint
from service.vae.reparameterization import PARAMETRIZATIONS, Parametrization
from service.vae.worker import Job, ReparameterizeJob, VaeWorker
from tests.service.vae.jobs import random_job

CPU = torch.device("cpu")


def reparameterization(parametrization: Parametrization, shape: tuple[int, ...]) -> ReparameterizeJob:
    job: Any = random_job(np.random.default_rng(0), parametrization, shape)
    return ReparameterizeJob(job.mu, job.scale, parametrization, job.grad_z, job.noise, 0, 0.5)


def pair(shape: tuple[int, ...]) -> GaussianPair:
    mu, scale, other_mu, other_scale = np.random.default_rng(0).normal(size=(4, *shape))
    return GaussianPair(mu, np.exp(scale), other_mu, other_scale, "sigma", "log_variance")


def labels(x: tuple[int, ...], w: tuple[int, ...]) -> LabelledPoint:
    rng = np.random.default_rng(0)
    return LabelledPoint(rng.normal(size=x), rng.normal(size=w), rng.integers(0, 2, x[:-1]).astype(np.float64))


def bits(outcomes: Sequence[Any]) -> list[bytes]:
    found: list[bytes] = []
    for outcome in outcomes:
        assert not isinstance(outcome, Exception), outcome
        for field in outcome:
            found += (
                bits([field]) if isinstance(field, tuple) else [] if field is None else [np.asarray(field).tobytes()]
            )
    return found


JOBS: dict[str, list[Job]] = {
    **{name: [reparameterization(name, (203, 7))] for name in PARAMETRIZATIONS},
    "one row": [reparameterization("sigma", (1500,))],
    "pair": [pair((203, 7))],
    "wide pair": [pair((21, 131))],
    "labels": [labels((203, 7), (203, 7))],
    "labels of one model": [labels((203, 7), (7,))],
    "labels of one weight": [labels((1403, 1), (1,))],
    "label": [labels((1500,), (1500,))],
    "several pairs": [pair((n, 5)) for n in (1, 30, 200, 3, 60)],
    "several": [reparameterization("softplus", (n, 5)) for n in (1, 30, 200, 3, 60)],
}


@pytest.mark.parametrize("name", JOBS)
def test_parts_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bits(VaeWorker(CPU)(JOBS[name]))
    pauses = 0

    def give_way() -> None:
        nonlocal pauses
        pauses += 1

    monkeypatch.setattr(parts, "PART_ELEMENTS", 100)
    monkeypatch.setattr(parts, "give_way", give_way)
    assert bits(VaeWorker(CPU)(JOBS[name])) == whole
    if name not in {"label", "one row"}:  # these cannot be divided
        assert pauses > 2


def test_an_error_names_the_place_in_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    job = pair((203, 7))
    np.asarray(job.scale_q)[150, 3] = -1.0
    (whole,) = VaeWorker(CPU)([job])
    monkeypatch.setattr(parts, "PART_ELEMENTS", 100)
    (divided,) = VaeWorker(CPU)([job])
    assert isinstance(whole, InvalidInput)
    assert isinstance(divided, InvalidInput)
    assert (divided.detail, divided.pointer) == (whole.detail, whole.pointer)


@pytest.mark.parametrize("y", [2.0, np.nan])
def test_an_error_of_a_label_names_the_place_in_the_whole(y: float, monkeypatch: pytest.MonkeyPatch) -> None:
    job = labels((203, 7), (7,))
    np.asarray(job.y)[150] = y
    monkeypatch.setattr(parts, "PART_ELEMENTS", 100)
    (divided,) = VaeWorker(CPU)([job])
    assert isinstance(divided, InvalidInput)
    assert divided.pointer == "/y/150"


def test_a_gradient_that_overflows_over_all_parts_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    job = LabelledPoint(np.full((203, 7), 1e307), np.zeros(7), np.ones(203))
    (whole,) = VaeWorker(CPU)([job])
    monkeypatch.setattr(parts, "PART_ELEMENTS", 70)
    (divided,) = VaeWorker(CPU)([job])
    assert isinstance(whole, InvalidInput)
    assert isinstance(divided, InvalidInput)
    assert (divided.detail, divided.pointer) == (whole.detail, whole.pointer)
