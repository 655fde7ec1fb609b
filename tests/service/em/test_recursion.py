"""The recursion without N x M numbers against the one that is written down, with all of them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from service.em.batched.transforms import include, single
from service.em.outcome import Outcome
from service.em.problem import Prior, Problem
from service.em.register import register
from tests.problems import registration
from tests.problems.tight import tight


class Literal(NamedTuple):
    """The state of the recursion as it is written down, with all N x M numbers."""

    responsibilities: Tensor
    translation: Tensor
    sigma: float
    log_likelihood: float


def literal(problem: Problem, translation: Tensor, sigma: float, floor: float = 0.0) -> list[Literal]:
    """E-step and M-step, over and over, in logarithms; `problem.sigma` None estimates σ, from `sigma` on."""
    p, q = problem.source, problem.target
    (N, D), M = p.shape, len(q)
    exponent = 1 if problem.sigma is not None else D
    log_prior = torch.full((N, M), -math.log(M), dtype=torch.float64)
    history = []
    for _ in range(problem.max_iterations):
        joint = log_prior - (p[:, None] + translation - q).square().sum(-1) / (2 * sigma**2)
        log_r = torch.log_softmax(joint, 1)
        r = log_r.exp()
        translation = (r[..., None] * (q - p[:, None])).sum((0, 1)) / N
        squares = (p[:, None] + translation - q).square().sum(-1)
        if problem.sigma is None:
            sigma = max(math.sqrt((r * squares).sum().item() / (N * D)), floor)
        if problem.resolved_prior == "free":
            log_prior = log_r
        evidence = torch.logsumexp(log_prior - squares / (2 * sigma**2), 1).sum().item()
        history.append(
            Literal(r, translation, sigma, evidence - N * exponent * math.log(math.sqrt(2 * math.pi) * sigma))
        )
    return history


def moments_sigma(p: Tensor, q: Tensor, translation: Tensor) -> float:
    """The documented first σ: the root mean square over all pairs and axes."""
    return (p[:, None] + translation - q).square().mean().sqrt().item()


def agrees(outcome: Outcome, history: list[Literal], within: float = 1e-10) -> None:
    last = history[-1]
    assert outcome.iterations == len(history)
    assert outcome.responsibilities is not None
    assert outcome.trace is not None
    torch.testing.assert_close(outcome.translation, last.translation, rtol=0, atol=within)
    torch.testing.assert_close(outcome.responsibilities, last.responsibilities, rtol=0, atol=within)
    assert outcome.sigma == pytest.approx(last.sigma, rel=within)
    likelihoods = torch.tensor([step.log_likelihood for step in history], dtype=torch.float64)
    torch.testing.assert_close(outcome.trace.log_likelihood, likelihoods, rtol=within, atol=within * len(likelihoods))
    assert outcome.trace.log_likelihood[-1].item() == outcome.log_likelihood
    translations = torch.stack([step.translation for step in history])
    torch.testing.assert_close(outcome.trace.translation, translations, rtol=0, atol=within)
    assert outcome.trace.sigma.tolist() == pytest.approx([step.sigma for step in history], rel=within)


FULL: dict[str, Any] = {"tolerance": 0.0, "responsibilities": True, "trace": True}


@pytest.mark.parametrize("iterations", [1, 2, 10, 100])
@pytest.mark.parametrize(("n", "m", "dimension"), [(1, 1, 1), (1, 2, 1), (7, 4, 2), (40, 55, 3), (30, 30, 5)])
@pytest.mark.parametrize("prior", ["free", "uniform"])
def test_a_known_sigma_gives_the_literal_recursion(
    n: int, m: int, dimension: int, iterations: int, prior: Prior
) -> None:
    generator = torch.Generator().manual_seed(n)
    p, q = registration.cloud(n, dimension, generator), registration.cloud(m, dimension, generator) + 0.2
    start = torch.full((dimension,), 0.1, dtype=torch.float64)
    problem = tight(p, q, sigma=0.15, prior=prior, init=start, max_iterations=iterations, **FULL)
    agrees(register(problem), literal(problem, start, 0.15))


@pytest.mark.parametrize("prior", ["free", "uniform"])
@pytest.mark.parametrize(("n", "m", "dimension"), [(7, 4, 2), (40, 55, 3), (25, 25, 1)])
def test_an_estimated_sigma_gives_the_literal_recursion(n: int, m: int, dimension: int, prior: Prior) -> None:
    generator = torch.Generator().manual_seed(n)
    p, q = registration.cloud(n, dimension, generator), registration.cloud(m, dimension, generator) + 0.2
    zero = torch.zeros(dimension, dtype=torch.float64)
    problem = tight(p, q, prior=prior, init="identity", max_iterations=30, **FULL)
    agrees(register(problem), literal(problem, zero, moments_sigma(p, q, zero), 1e-6 * spread(p, q)), within=1e-9)


def spread(p: Tensor, q: Tensor) -> float:
    """The root mean square distance from the centroid, of both clouds."""
    squares = [(x - x.mean(0)).square().sum(1).mean().item() for x in (p, q)]
    return math.sqrt(sum(squares) / 2)


def test_rows_longer_than_a_tile_give_the_literal_recursion() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = registration.cloud(150, 2, generator), registration.cloud(1300, 2, generator)
    zero = torch.zeros(2, dtype=torch.float64)
    for sigma in (0.02, None):
        problem = tight(p, q, sigma=sigma, prior="uniform", init="identity", max_iterations=4, **FULL)
        agrees(register(problem), literal(problem, zero, sigma or moments_sigma(p, q, zero)))


def test_one_point_between_two_follows_its_closed_form() -> None:
    expected = registration.one_point_between_two(2.0, 0.3, 1.7, 12)
    p, q = torch.zeros(1, 1, dtype=torch.float64), torch.tensor([[-2.0], [2.0]], dtype=torch.float64)
    start = torch.tensor([0.3], dtype=torch.float64)
    outcome = register(tight(p, q, sigma=1.7, init=start, max_iterations=12, tolerance=0, trace=True))
    assert outcome.trace is not None
    assert outcome.trace.translation[:, 0].tolist() == pytest.approx(expected, abs=1e-13)


def test_the_sum_of_squares_about_several_translations_is_one_square_and_a_drift() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = registration.cloud(6, 1, generator)
    translations = registration.cloud(6, 3, generator)
    average = single(translations[:1], weights[0])
    for translation, weight in zip(translations[1:], weights[1:], strict=True):
        average = include(average, translation[None], weight)
    x = registration.cloud(1, 3, generator)
    literal_sum = (weights * (x + translations).square()).sum()
    folded = average.weight * (x + average.mean).square().sum() + average.drift
    torch.testing.assert_close(folded[0], literal_sum, rtol=1e-14, atol=0)


@pytest.mark.parametrize("far", [1e6, 1e12, 1e30])
def test_a_target_point_far_away_costs_the_others_no_digits(far: float) -> None:
    """As data have it that mark a missing value by a number of their own."""
    instance = registration.bijection(20, 2, sigma=0.05, shift=0.1)
    target = torch.cat([instance.target, torch.tensor([[far, 0.0]], dtype=torch.float64)])
    zero = torch.zeros(2, dtype=torch.float64)
    problem = tight(instance.source, target, sigma=0.3, prior="free", init=zero, max_iterations=20, **FULL)
    agrees(register(problem), literal(problem, zero, 0.3))
