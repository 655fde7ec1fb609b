"""Large jobs are computed in parts, which changes no bit of a result, and no error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from service.errors import InvalidInput
from service.runtime import turns
from service.vae import parts
from service.vae.gaussian_kl import GaussianPair
from service.vae.logistic import LabelledPoint
from service.vae.reparameterization import PARAMETRIZATIONS, Parametrization
from service.vae.worker import Job, ReparameterizeJob, VaeWorker, cost
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
    "one large matrix": [reparameterization("scale_tril", (40,))],
    "several pairs": [pair((n, 5)) for n in (1, 30, 200, 3, 60)],
    "several": [reparameterization("softplus", (n, 5)) for n in (1, 30, 200, 3, 60)],
}


SMALL = 128  # elements of a part


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One item for each time that the work gives way. Parts are small."""
    found: list[None] = []
    monkeypatch.setattr(parts, "PART_ELEMENTS", SMALL)
    monkeypatch.setattr(turns, "give_way", lambda: found.append(None))
    return found


@pytest.mark.parametrize("name", JOBS)
def test_parts_change_no_bit(name: str, request: pytest.FixtureRequest) -> None:
    whole = bits(VaeWorker(CPU)(JOBS[name]))
    request.getfixturevalue("pauses")
    assert bits(VaeWorker(CPU)(JOBS[name])) == whole


@pytest.mark.parametrize("name", JOBS)
def test_work_of_any_shape_gives_way_once_in_each_part(name: str, pauses: list[None]) -> None:
    (job, *others) = JOBS[name]
    VaeWorker(CPU)([job, *others])
    elements = sum(cost(one) for one in (job, *others))
    assert len(pauses) >= elements // SMALL


def replaced(job: Any, **last: float) -> Job:
    """The job with other last elements of the named arrays."""
    fields = {}
    for name, value in last.items():
        fields[name] = np.array(getattr(job, name))
        fields[name].reshape(-1)[-1] = value
    changed: Job = job._replace(**fields)
    return changed


def faulty(shape: tuple[int, ...]) -> dict[str, Job]:
    """Jobs with one fault at the end: a value that is not allowed, or one that makes a result overflow."""
    found: dict[str, Job] = {
        "pair mu": replaced(pair(shape), mu_q=1e300),
        "pair sigma": replaced(pair(shape), scale_q=-1.0),
        "pair log_variance": replaced(pair(shape), scale_p=-3e3),
        "pair finite": replaced(pair(shape), mu_p=np.nan),
        "labels x": replaced(labels(shape, shape), x=1e308, w=1e300),
        "labels w": replaced(labels(shape, shape), x=1e300, w=1e308),
    }
    parametrizations: Sequence[Parametrization] = PARAMETRIZATIONS if len(shape) > 1 else PARAMETRIZATIONS[:3]
    for name in parametrizations:
        job = reparameterization(name, shape)
        found |= {f"{name} mu": replaced(job, mu=1e300), f"{name} noise": replaced(job, noise=1e308, scale=1e308)}
        found |= {
            f"{name} finite": replaced(job, scale=np.nan),
            f"{name} gradient": replaced(job, noise=1e200, grad_z=1e200),
        }
    return {f"{name} {shape}": job for name, job in found.items()}


def faulty_matrices() -> dict[str, Job]:
    found: dict[str, Job] = {}
    for name, place, value in (("above", (0, 39), 1.0), ("on", (39, 39), -1.0), ("below", (39, 0), 1e308)):
        square = reparameterization("scale_tril", (40,))
        array = np.array(square.scale)
        array[place] = value
        found[f"{name} the diagonal"] = square._replace(scale=array, noise=np.full(40, 1e10))
    return found


FAULTY = faulty((203, 7)) | faulty((1421,)) | faulty_matrices()


@pytest.mark.parametrize("name", FAULTY)
def test_an_error_names_the_place_in_the_whole(name: str, request: pytest.FixtureRequest) -> None:
    (whole,) = VaeWorker(CPU)([FAULTY[name]])
    request.getfixturevalue("pauses")
    (divided,) = VaeWorker(CPU)([FAULTY[name]])
    assert isinstance(whole, InvalidInput)
    assert isinstance(divided, InvalidInput)
    assert (divided.detail, divided.pointer, divided.allowed) == (whole.detail, whole.pointer, whole.allowed)


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
