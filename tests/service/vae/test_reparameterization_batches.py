"""Reparameterization in batches: a job has the same bytes alone and in any batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from service.errors import InvalidInput
from service.vae.reparameterization import (
    PARAMETRIZATIONS,
    Parametrization,
    ReparameterizationJob,
    reparameterize,
    reparameterize_batch,
)
from tests.service.vae.comparison import DEVICES, content
from tests.service.vae.jobs import random_job

SIZES: list[tuple[int, ...]] = [
    *((d,) for d in (1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129)),
    *((b, d) for b in (1, 2, 3, 9) for d in (1, 2, 5, 16, 33)),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_a_job_gets_the_same_bytes_alone_and_in_any_batch(
    parametrization: Parametrization, device: str, threads: int
) -> None:
    rng = np.random.default_rng(threads)
    jobs = [random_job(rng, parametrization, shape, (None, 0.5, 2.0)[k % 3]) for k, shape in enumerate(SIZES)]
    alone = [content(reparameterize(job, device=device)) for job in jobs]
    for _ in range(12):
        order = rng.permutation(len(jobs))[: rng.integers(2, len(jobs) + 1)]
        together = reparameterize_batch([jobs[k] for k in order], device=device)
        for k, result in zip(order, together, strict=True):
            assert content(result) == alone[k], jobs[k].mu.shape


@pytest.mark.parametrize("parametrization", PARAMETRIZATIONS)
def test_jobs_large_enough_to_be_split_over_threads_keep_their_bytes(
    parametrization: Parametrization, threads: int
) -> None:
    rng = np.random.default_rng(threads)
    shapes = [(2309, 5), (7, 3), (701, 16), (6101, 7), (1, 1)]
    jobs = [random_job(rng, parametrization, shape, 1.0) for shape in shapes]
    alone = [content(reparameterize(job)) for job in jobs]
    for order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [1, 3], [2, 0, 4]):
        results = reparameterize_batch([jobs[k] for k in order])
        assert [content(result) for result in results] == [alone[k] for k in order]


def test_the_bytes_do_not_depend_on_the_number_of_threads() -> None:
    rng = np.random.default_rng(0)
    jobs = [random_job(rng, parametrization, (5003, 7), 1.0) for parametrization in PARAMETRIZATIONS]
    before, seen = torch.get_num_threads(), []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        seen.append([content(result) for result in reparameterize_batch(jobs)])
    torch.set_num_threads(before)
    assert seen[0] == seen[1] == seen[2]


def test_a_mixed_batch_keeps_its_order_and_bad_jobs_do_not_affect_others() -> None:
    rng = np.random.default_rng(0)
    jobs = [
        random_job(rng, parametrization, (2, 3), weight) for parametrization in PARAMETRIZATIONS for weight in (None, 1)
    ]
    alone = [content(reparameterize(job)) for job in jobs]
    bad = [job._replace(mu=np.full((2, 3), np.nan)) for job in jobs]
    bad += [job._replace(grad_z=np.full((2, 3), 1e308), noise=np.full((2, 3), 1e308)) for job in jobs]
    bad += [job._replace(noise=np.zeros(3)) for job in jobs]
    outcomes = reparameterize_batch([*bad, *jobs, *bad])
    good = outcomes[len(bad) : len(bad) + len(jobs)]
    assert [content(outcome) for outcome in good] == alone
    assert all(isinstance(outcome, InvalidInput) for outcome in outcomes[: len(bad)] + outcomes[-len(bad) :])


def test_an_empty_batch_has_no_outcomes() -> None:
    assert reparameterize_batch([]) == []


def test_tensors_and_integers_are_read_like_float64_arrays() -> None:
    expected = reparameterize(
        ReparameterizationJob(np.array([1.0]), np.array([2.0]), "sigma", np.array([3.0]), np.array([4.0]))
    )
    one: Any = np.array([1])
    scale = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    job = ReparameterizationJob(one, scale, "sigma", torch.tensor([3.0]), torch.tensor([4.0]))
    assert content(reparameterize(job)) == content(expected)
