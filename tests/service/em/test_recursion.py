"""The recursion without N x M numbers against the one that is written down, with all of them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from service.em.batched.transforms import include, single
from service.em.choices import Prior
from service.em.outcome import Outcome
from service.em.problem import Problem
from service.em.register import register
from tests.problems import registration
from tests.problems.tight import tight

Float64 = NDArray[np.float64]


class Literal(NamedTuple):
    """The state of the recursion as it is written down, with all N x M numbers."""

    responsibilities: Float64
    translation: Float64
    sigma: float
    log_likelihood: float


def literal(problem: Problem, translation: Float64, sigma: float, floor: float = 0.0) -> list[Literal]:
    """The E-steps and M-steps, in logarithms. With `problem.sigma` None, σ is estimated, starting from `sigma`."""
    p, q = problem.source, problem.target
    (N, D), M = p.shape, len(q)
    exponent = 1 if problem.sigma is not None else D
    log_prior = np.full((N, M), -math.log(M))
    history = []
    for _ in range(problem.max_iterations):
        joint = log_prior - np.square(p[:, None] + translation - q).sum(-1) / (2 * sigma**2)
        log_r = log_softmax(joint, 1)
        r = np.exp(log_r)
        translation = (r[..., None] * (q - p[:, None])).sum((0, 1)) / N
        squares = np.square(p[:, None] + translation - q).sum(-1)
        if problem.sigma is None:
            sigma = max(math.sqrt((r * squares).sum().item() / (N * D)), floor)
        if problem.resolved_prior == "free":
            log_prior = log_r
        evidence = float(logsumexp(log_prior - squares / (2 * sigma**2), 1).sum())
        history.append(
            Literal(r, translation, sigma, evidence - N * exponent * math.log(math.sqrt(2 * math.pi) * sigma))
        )
    return history


def moments_sigma(p: Float64, q: Float64, translation: Float64) -> float:
    """The documented first σ: the root mean square over all pairs and axes."""
    return math.sqrt(np.square(p[:, None] + translation - q).mean())


def agrees(outcome: Outcome, history: list[Literal], within: float = 1e-10) -> None:
    last = history[-1]
    assert outcome.iterations == len(history)
    assert outcome.responsibilities is not None
    assert outcome.trace is not None
    np.testing.assert_allclose(outcome.translation, last.translation, rtol=0, atol=within)
    np.testing.assert_allclose(outcome.responsibilities, last.responsibilities, rtol=0, atol=within)
    assert outcome.sigma == pytest.approx(last.sigma, rel=within)
    likelihoods = np.array([step.log_likelihood for step in history])
    np.testing.assert_allclose(outcome.trace.log_likelihood, likelihoods, rtol=within, atol=within * len(likelihoods))
    assert outcome.trace.log_likelihood[-1].item() == outcome.log_likelihood
    translations = np.stack([step.translation for step in history])
    np.testing.assert_allclose(outcome.trace.translation, translations, rtol=0, atol=within)
    assert outcome.trace.sigma.tolist() == pytest.approx([step.sigma for step in history], rel=within)


FULL: dict[str, Any] = {"tolerance": 0.0, "responsibilities": True, "trace": True}


@pytest.mark.parametrize("iterations", [1, 2, 10, 100])
@pytest.mark.parametrize(("n", "m", "dimension"), [(1, 1, 1), (1, 2, 1), (7, 4, 2), (40, 55, 3), (30, 30, 5)])
@pytest.mark.parametrize("prior", ["free", "uniform"])
def test_a_known_sigma_gives_the_literal_recursion(
    n: int, m: int, dimension: int, iterations: int, prior: Prior
) -> None:
    generator = np.random.default_rng(n)
    p, q = registration.cloud(n, dimension, generator), registration.cloud(m, dimension, generator) + 0.2
    start = np.full(dimension, 0.1)
    problem = tight(p, q, sigma=0.15, prior=prior, init=start, max_iterations=iterations, **FULL)
    agrees(register(problem), literal(problem, start, 0.15))


@pytest.mark.parametrize("prior", ["free", "uniform"])
@pytest.mark.parametrize(("n", "m", "dimension"), [(7, 4, 2), (40, 55, 3), (25, 25, 1)])
def test_an_estimated_sigma_gives_the_literal_recursion(n: int, m: int, dimension: int, prior: Prior) -> None:
    generator = np.random.default_rng(n)
    p, q = registration.cloud(n, dimension, generator), registration.cloud(m, dimension, generator) + 0.2
    zero = np.zeros(dimension)
    problem = tight(p, q, prior=prior, init="identity", max_iterations=30, **FULL)
    agrees(register(problem), literal(problem, zero, moments_sigma(p, q, zero), 1e-6 * spread(p, q)), within=1e-9)


def spread(p: Float64, q: Float64) -> float:
    """The root mean square distance from the centroid, of both clouds."""
    squares = [float(np.square(x - x.mean(0)).sum(1).mean()) for x in (p, q)]
    return math.sqrt(sum(squares) / 2)


def test_rows_longer_than_a_tile_give_the_literal_recursion() -> None:
    generator = np.random.default_rng(0)
    p, q = registration.cloud(150, 2, generator), registration.cloud(1300, 2, generator)
    zero = np.zeros(2)
    for sigma in (0.02, None):
        problem = tight(p, q, sigma=sigma, prior="uniform", init="identity", max_iterations=4, **FULL)
        agrees(register(problem), literal(problem, zero, sigma or moments_sigma(p, q, zero)))


def test_one_point_between_two_follows_its_closed_form() -> None:
    expected = registration.one_point_between_two(2.0, 0.3, 1.7, 12)
    p, q = np.zeros((1, 1)), np.array([[-2.0], [2.0]])
    start = np.array([0.3])
    outcome = register(tight(p, q, sigma=1.7, init=start, max_iterations=12, tolerance=0, trace=True))
    assert outcome.trace is not None
    assert outcome.trace.translation[:, 0].tolist() == pytest.approx(expected, abs=1e-13)


def test_the_sum_of_squares_about_several_translations_is_one_square_and_a_drift() -> None:
    generator = np.random.default_rng(0)
    weights = torch.from_numpy(registration.cloud(6, 1, generator))
    translations = torch.from_numpy(registration.cloud(6, 3, generator))
    average = single(translations[:1], weights[0])
    for translation, weight in zip(translations[1:], weights[1:], strict=True):
        average = include(average, translation[None], weight)
    x = torch.from_numpy(registration.cloud(1, 3, generator))
    literal_sum = (weights * (x + translations).square()).sum()
    folded = average.weight * (x + average.mean).square().sum() + average.drift
    torch.testing.assert_close(folded[0], literal_sum, rtol=1e-14, atol=0)


@pytest.mark.parametrize("far", [1e6, 1e12, 1e30])
def test_a_target_point_far_away_costs_the_others_no_digits(far: float) -> None:
    """As data have it that mark a missing value by a number of their own."""
    instance = registration.bijection(20, 2, sigma=0.05, shift=0.1)
    target = np.concatenate([instance.target, np.array([[far, 0.0]])])
    zero = np.zeros(2)
    problem = tight(instance.source, target, sigma=0.3, prior="free", init=zero, max_iterations=20, **FULL)
    agrees(register(problem), literal(problem, zero, 0.3))
