"""Batch invariance: a problem's outcome is the same, bit for bit, alone and among others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from service.em.outcome import Outcome
from service.em.problem import Problem
from service.em.register import register, register_batch
from service.em.steps import Psi
from service.em.worker import EmWorker, ExpectJob, Job, LikelihoodJob, MaximizeJob
from tests.problems.registration import bijection, cropped, overlapping
from tests.problems.tight import tight


def same(a: Outcome, b: Outcome) -> bool:
    """Whether all fields are equal, bit for bit."""
    return _equal(tuple(a), tuple(b))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, tuple):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    return bool(a == b)


def assorted(count: int, dimension: int, **options: Any) -> list[Problem]:
    """Problems of a few sizes with good and bad overlap, which stop for different reasons at different iterations."""
    problems = []
    for i in range(count):
        n = (5, 40, 39, 72, 70)[i % 5]
        match i % 3:
            case 0:
                instance = bijection(n, dimension, sigma=0.02, shift=10.0 ** (i % 7), seed=i)
            case 1:
                instance = overlapping(n // 4, n - n // 4, n // 4, dimension, sigma=0.05, seed=i)
            case _:
                instance = cropped(n, dimension, 0.7, sigma=0.01, seed=i)
        problems.append(
            tight(
                instance.source,
                instance.target,
                max_iterations=3 + i % 9,
                tolerance=(0.0, 1e-2, 1e-5)[i % 3],
                trace=i % 4 == 0,
                responsibilities=i % 5 == 0,
                registered=i % 7 == 0,
                matching="one_to_one" if i % 6 == 0 else "nearest",
                **options,
            )
        )
    return problems


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "options",
    [
        {"sigma": 0.03},
        {},
        {"sigma": 0.03, "prior": "uniform", "init": "identity"},
        {"prior": "free", "init": "centroid"},
    ],
    ids=["free", "estimated", "uniform", "free-estimated"],
)
def test_an_outcome_does_not_depend_on_the_batch(dimension: int, options: dict[str, Any]) -> None:
    problems = assorted(64, dimension, **options)
    alone = [register(problem) for problem in problems]
    generator = np.random.default_rng(dimension)
    for size in (2, 3, 7, 33, 64):
        order = generator.permutation(64)[:size].tolist()
        for i, outcome in zip(order, register_batch([problems[i] for i in order]), strict=True):
            assert same(outcome, alone[i]), (size, i)


@pytest.mark.parametrize("dimension", [2, 3])
def test_problems_of_many_tiles_do_not_depend_on_the_batch(dimension: int) -> None:
    problems = []
    for seed in range(3):
        instance = overlapping(20, 280 + seed, 260, dimension, sigma=0.01, seed=seed)
        problems.append(tight(instance.source, instance.target, sigma=0.02, prior="uniform", max_iterations=3))
    for problem, outcome in zip(problems, register_batch(problems), strict=True):
        assert same(outcome, register(problem))


def test_a_cancelled_problem_leaves_its_batch_mates_as_they_are() -> None:
    problems = assorted(15, 2, sigma=0.03)
    alone = [register(problem) for problem in problems]
    polls = iter([False, True])
    problems[7] = problems[7]._replace(cancelled=lambda: next(polls))
    outcomes = register_batch(problems)
    assert outcomes[7].stop_reason == "cancelled"
    assert all(same(outcomes[i], alone[i]) for i in range(15) if i != 7)


def test_no_problems_give_no_outcomes() -> None:
    assert register_batch([]) == []


@pytest.mark.parametrize("dimension", [1, 2, 3, 33, 64])
def test_a_single_step_does_not_depend_on_the_batch(dimension: int) -> None:
    generator = np.random.default_rng(dimension)

    def normal(*shape: int) -> NDArray[np.float64]:
        return generator.normal(size=shape)

    worker = EmWorker()
    for n, m in ((1, 1), (3, 7), (37, 51)):
        jobs: list[tuple[Job, ...]] = []
        for _ in range(33):
            p, q, prior = normal(n, dimension), normal(m, dimension), softmax(normal(n, m), -1)
            psi = Psi(normal(dimension), prior, np.array(0.7))
            assignment = np.eye(m)[np.arange(n) % m]
            jobs.append((ExpectJob(p, q, psi), MaximizeJob(p, q, prior), LikelihoodJob(p, q, psi, assignment)))
        for step in zip(*jobs, strict=True):
            together = worker(step)
            assert all(
                _equal(tuple(worker([job])[0]), tuple(result)) for job, result in zip(step, together, strict=True)
            )
