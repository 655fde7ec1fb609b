"""The single steps on textbook cases, and against autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from service.em.steps import Parameters, complete_log_likelihood, expectation, maximization
from tests.problems.registration import Closed, cloud, identity_assignment, two_targets

TEXTBOOK = [
    identity_assignment(6, 2),
    identity_assignment(1, 1),
    two_targets(7, 3),
    two_targets(2, 1),
    two_targets(1, 2),
]


def parameters(translation: Tensor, prior: Tensor, sigma: float) -> Parameters:
    """ψ of a single problem."""
    return Parameters(translation[None], prior[None], torch.tensor([sigma], dtype=torch.float64))


def random_rows(n: int, m: int, seed: int) -> Tensor:
    rows = cloud(n, m, torch.Generator().manual_seed(seed)) + 1e-3
    return rows / rows.sum(1, keepdim=True)


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
    assert torch.equal(expected.responsibilities[0], case.assignment)
    assert expected.q.item() == pytest.approx(q)
    assert expected.log_likelihood.item() == pytest.approx(q)
    assert complete_log_likelihood(source, target, psi, expected.responsibilities).log_prior.item() == 0
    maximized = maximization(source, target, expected.responsibilities)
    assert torch.equal(maximized.prior, expected.responsibilities)
    torch.testing.assert_close(maximized.translation[0], case.maximizer, rtol=0, atol=1e-14)


def test_an_assignment_that_the_prior_forbids_has_likelihood_minus_infinity() -> None:
    case = two_targets(4, 2)
    psi = parameters(case.translation, 1 - case.assignment, case.sigma)
    found = complete_log_likelihood(case.source[None], case.target[None], psi, case.assignment[None])
    assert found.log_likelihood.item() == -math.inf


@pytest.mark.parametrize("sigma", [1e-40, 1e-3, 1.0, 1e40])
def test_rows_sum_to_one_where_every_density_underflows(sigma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    source, target = cloud(5, 2, generator), cloud(8, 2, generator) + 1e3
    expected = expectation(
        source[None], target[None], parameters(torch.zeros(2, dtype=torch.float64), random_rows(5, 8, 1), sigma)
    )
    torch.testing.assert_close(expected.responsibilities.sum(-1), torch.ones(1, 5, dtype=torch.float64))


def test_the_m_step_is_where_the_gradient_of_q_vanishes() -> None:
    generator = torch.Generator().manual_seed(0)
    source, target, rows = cloud(9, 3, generator), cloud(7, 3, generator), random_rows(9, 7, 1)
    maximized = maximization(source[None], target[None], rows[None])
    translation = maximized.translation[0].clone().requires_grad_()
    psi = parameters(translation, rows, 0.2)
    q = complete_log_likelihood(source[None], target[None], psi, rows[None]).log_likelihood.sum()
    (gradient,) = torch.autograd.grad(q, translation)
    torch.testing.assert_close(gradient, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-11)
    for seed in range(5):
        elsewhere = parameters(translation.detach(), random_rows(9, 7, seed + 2), 0.2)
        assert (
            complete_log_likelihood(source[None], target[None], elsewhere, rows[None]).log_likelihood.item() < q.item()
        )


def test_the_gradient_of_the_likelihood_is_that_of_q_at_the_same_parameters() -> None:
    generator = torch.Generator().manual_seed(0)
    source, target, prior = cloud(9, 2, generator), cloud(7, 2, generator), random_rows(9, 7, 1)
    here = parameters(torch.tensor([0.1, 0.2], dtype=torch.float64), prior, 0.4)
    translation = here.translation.clone().requires_grad_()
    sigma = here.sigma.clone().requires_grad_()
    there = Parameters(translation, here.prior, sigma)
    (by_t, by_sigma) = torch.autograd.grad(
        expectation(source[None], target[None], there).log_likelihood.sum(), (translation, sigma)
    )
    (q_by_t, q_by_sigma) = torch.autograd.grad(
        expectation(source[None], target[None], here, there).q.sum(), (translation, sigma)
    )
    torch.testing.assert_close(by_t, q_by_t, rtol=1e-10, atol=0)
    torch.testing.assert_close(by_sigma, q_by_sigma, rtol=1e-10, atol=0)


def test_the_likelihood_is_q_plus_the_entropy_of_the_responsibilities() -> None:
    generator = torch.Generator().manual_seed(0)
    source, target, prior = cloud(9, 2, generator), cloud(7, 2, generator), random_rows(9, 7, 1)
    found = expectation(source[None], target[None], parameters(cloud(1, 2, generator)[0], prior, 0.3))
    entropy = -torch.xlogy(found.responsibilities, found.responsibilities).sum()
    assert found.log_likelihood.item() == pytest.approx(found.q.item() + entropy.item())
