"""Divergences in batches: a job has the same bytes alone and in any batch."""

from __future__ import annotations

import numpy as np
import pytest

from service.errors import InvalidInput
from service.vae.gaussian_kl import (
    GaussianPair,
    gaussian_kl,
    gaussian_kl_batch,
)
from service.vae.logistic import LabelledPoint, logistic_divergence, logistic_divergence_batch
from tests.service.vae.comparison import DEVICES, content
from tests.service.vae.problems import KINDS, random_pair, random_point

SIZES: list[tuple[int, ...]] = [
    *((d,) for d in (1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 1000)),
    *((b, d) for b in (1, 2, 3, 9, 64) for d in (1, 2, 5, 16, 33)),
    (2309, 5),
    (701, 16),
    (1, 20011),
]


@pytest.mark.parametrize("device", DEVICES)
def test_a_gaussian_job_gets_the_same_bytes_alone_and_in_any_batch(device: str, threads: int) -> None:
    rng = np.random.default_rng(threads)
    jobs = [random_pair(rng, KINDS[k % 4], shape) for k, shape in enumerate(SIZES * 2)]
    alone = [content(gaussian_kl(job, device=device)) for job in jobs]
    for _ in range(15):
        order = rng.permutation(len(jobs))[: rng.integers(2, len(jobs) + 1)]
        together = gaussian_kl_batch([jobs[k] for k in order], device=device)
        for k, result in zip(order, together, strict=True):
            assert content(result) == alone[k], jobs[k].mu_q.shape


@pytest.mark.parametrize("device", DEVICES)
def test_a_logistic_job_gets_the_same_bytes_alone_and_in_any_batch(device: str, threads: int) -> None:
    rng = np.random.default_rng(threads)
    jobs = [random_point(rng, shape, shared=k % 3 == 0) for k, shape in enumerate(SIZES * 2)]
    alone = [content(logistic_divergence(job, device=device)) for job in jobs]
    for _ in range(15):
        order = rng.permutation(len(jobs))[: rng.integers(2, len(jobs) + 1)]
        together = logistic_divergence_batch([jobs[k] for k in order], device=device)
        for k, result in zip(order, together, strict=True):
            assert content(result) == alone[k], jobs[k].x.shape


@pytest.mark.parametrize("width", [1, 2, 7, 8, 33, 129, 1000])
def test_a_row_has_the_same_divergence_alone_and_among_other_rows(width: int) -> None:
    rng = np.random.default_rng(width)
    pair, point = random_pair(rng, ("sigma", "log_variance"), (9, width)), random_point(rng, (9, width))
    kl, label = gaussian_kl(pair), logistic_divergence(point)
    for b in range(9):
        mu_q, scale_q, mu_p, scale_p = (np.asarray(array)[b] for array in pair[:4])
        assert gaussian_kl(GaussianPair(mu_q, scale_q, mu_p, scale_p, *pair[4:])).divergence == kl.divergence[b]
        x, w, y = (np.asarray(array)[b] for array in point)
        assert logistic_divergence(LabelledPoint(x, w, y)).divergence == label.divergence[b]


def test_bad_jobs_do_not_affect_others() -> None:
    rng = np.random.default_rng(0)
    pair, point = random_pair(rng, ("sigma", "sigma"), (2, 3)), random_point(rng, (2, 3))
    bad_pair, bad_point = pair._replace(scale_p=np.full((2, 3), np.nan)), point._replace(y=np.full(2, np.inf))
    pairs = gaussian_kl_batch([bad_pair, pair, bad_pair._replace(mu_p=np.zeros(3)), pair])
    points = logistic_divergence_batch([bad_point, point, bad_point._replace(y=np.zeros(3)), point])
    for outcomes, alone in ((pairs, content(gaussian_kl(pair))), (points, content(logistic_divergence(point)))):
        assert isinstance(outcomes[0], InvalidInput)
        assert isinstance(outcomes[2], InvalidInput)
        assert content(outcomes[1]) == content(outcomes[3]) == alone


def test_empty_batches_have_no_outcomes() -> None:
    assert gaussian_kl_batch([]) == []
    assert logistic_divergence_batch([]) == []
