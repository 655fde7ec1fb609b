"""The single steps on textbook cases, and their derivatives by the complex step: f'(x) = Im f(x + ih) / h."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import xlogy

from service.em.steps import Psi, complete_log_likelihood, expectation, maximization
from tests.problems.registration import Closed, cloud, identity_assignment, two_targets

Float64 = NDArray[np.float64]

TEXTBOOK = [
    identity_assignment(6, 2),
    identity_assignment(1, 1),
    two_targets(7, 3),
    two_targets(2, 1),
    two_targets(1, 2),
]


def parameters(translation: NDArray[Any], prior: Float64, sigma: float) -> Psi:
    """ψ of a single problem."""
    return Psi(translation[None], prior[None], np.array([sigma]))


def random_rows(n: int, m: int, seed: int) -> Float64:
    rows = cloud(n, m, np.random.default_rng(seed)) + 1e-3
    return np.asarray(rows / rows.sum(1, keepdims=True))


@pytest.mark.parametrize("case", TEXTBOOK)
def test_the_complete_likelihood_written_out(case: Closed) -> None:
    n, m = case.assignment.shape
    prior = random_rows(n, m, 0)
    found = complete_log_likelihood(
        case.source[None],
        case.target[None],
        parameters(case.translation, prior, case.sigma),
        case.assignment[None],
    )
    log_prior = sum(math.log(prior[i, int(case.assignment[i].argmax())].item()) for i in range(n))
    normaliser = -n * math.log(math.sqrt(2 * math.pi) * case.sigma)
    distance = -case.squares.sum().item() / (2 * case.sigma**2)
    assert found.log_prior.item() == pytest.approx(log_prior)
    assert found.log_normaliser.item() == pytest.approx(normaliser)
    assert found.log_distance.item() == pytest.approx(distance)
    assert found.log_likelihood.item() == pytest.approx(log_prior + normaliser + distance)


@pytest.mark.parametrize("case", TEXTBOOK)
def test_a_hard_prior_is_its_own_posterior_and_zero_times_log_zero_is_zero(case: Closed) -> None:
    source, target, psi = (
        case.source[None],
        case.target[None],
        parameters(case.translation, case.assignment, case.sigma),
    )
    expected = expectation(source, target, psi)
    n = len(case.source)
    q = -n * math.log(math.sqrt(2 * math.pi) * case.sigma) - case.squares.sum().item() / (2 * case.sigma**2)
    assert np.array_equal(expected.responsibilities[0], case.assignment)
    assert expected.q.item() == pytest.approx(q)
    assert expected.log_likelihood.item() == pytest.approx(q)
    assert complete_log_likelihood(source, target, psi, expected.responsibilities).log_prior.item() == 0
    maximized = maximization(source, target, expected.responsibilities)
    assert np.array_equal(maximized.prior, expected.responsibilities)
    np.testing.assert_allclose(maximized.translation[0], case.maximizer, rtol=0, atol=1e-14)


def test_an_assignment_that_the_prior_forbids_has_likelihood_minus_infinity() -> None:
    case = two_targets(4, 2)
    psi = parameters(case.translation, 1 - case.assignment, case.sigma)
    found = complete_log_likelihood(case.source[None], case.target[None], psi, case.assignment[None])
    assert found.log_likelihood.item() == -math.inf


@pytest.mark.parametrize("sigma", [1e-40, 1e-3, 1.0, 1e40])
def test_rows_sum_to_one_where_every_density_underflows(sigma: float) -> None:
    generator = np.random.default_rng(0)
    source, target = cloud(5, 2, generator), cloud(8, 2, generator) + 1e3
    expected = expectation(source[None], target[None], parameters(np.zeros(2), random_rows(5, 8, 1), sigma))
    np.testing.assert_allclose(expected.responsibilities.sum(-1), np.ones((1, 5)))


# So small that the square of the step is far below rounding: the derivative is exact to the last bits.
STEP = 1e-30


def test_the_m_step_is_where_the_gradient_of_q_vanishes() -> None:
    generator = np.random.default_rng(0)
    source, target, rows = cloud(9, 3, generator), cloud(7, 3, generator), random_rows(9, 7, 1)
    translation = maximization(source[None], target[None], rows[None]).translation[0]

    def q(translation: NDArray[Any], prior: Float64 = rows) -> Any:
        psi = parameters(translation, prior, 0.2)
        return complete_log_likelihood(source[None], target[None], psi, rows[None]).log_likelihood[0]

    gradient = [q(translation + 1j * STEP * axis).imag / STEP for axis in np.eye(3)]
    np.testing.assert_allclose(gradient, np.zeros(3), rtol=0, atol=1e-11)
    for seed in range(5):
        assert q(translation, random_rows(9, 7, seed + 2)) < q(translation)


def test_the_gradient_of_the_likelihood_is_that_of_q_at_the_same_parameters() -> None:
    generator = np.random.default_rng(0)
    source, target, prior = cloud(9, 2, generator), cloud(7, 2, generator), random_rows(9, 7, 1)
    translation, sigma = np.array([0.1, 0.2]), 0.4
    here = parameters(translation, prior, sigma)
    # The directions of T and σ, one after the other.
    for direction in np.eye(3):
        there = Psi(
            (translation + 1j * STEP * direction[:2])[None], prior[None], np.array([sigma + 1j * STEP * direction[2]])
        )
        likelihood = expectation(source[None], target[None], there).log_likelihood[0].imag / STEP
        q = expectation(source[None], target[None], here, there).q[0].imag / STEP
        assert abs(q) > 0.1
        assert likelihood == pytest.approx(q, rel=1e-10)


def test_the_likelihood_is_q_plus_the_entropy_of_the_responsibilities() -> None:
    generator = np.random.default_rng(0)
    source, target, prior = cloud(9, 2, generator), cloud(7, 2, generator), random_rows(9, 7, 1)
    found = expectation(source[None], target[None], parameters(cloud(1, 2, generator)[0], prior, 0.3))
    entropy = -xlogy(found.responsibilities, found.responsibilities).sum()
    assert found.log_likelihood.item() == pytest.approx(found.q.item() + entropy.item())
