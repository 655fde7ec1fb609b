"""Laws of the value function and of the losses derived from it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training.config import CHOICES
from training.learning.losses import OBJECTIVES, calculate_v, minimax_loss, non_saturating_loss, relativistic_loss
from training.learning.penalty import gradient_penalty


def logits(count: int, seed: int) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def test_v_from_logits_equals_the_formula_in_probabilities() -> None:
    real, fake = logits(64, 0), logits(32, 1)
    expected = torch.log(torch.sigmoid(real)).mean() + torch.log(1 - torch.sigmoid(fake)).mean()
    torch.testing.assert_close(calculate_v(real, fake), expected)


def test_v_is_minus_2_log_2_if_d_is_one_half() -> None:
    assert calculate_v(torch.zeros(5), torch.zeros(9)).item() == pytest.approx(-2 * math.log(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("real", "fake", "expected"), [(1e4, -1e4, 0.0), (-1e4, 1e4, -2e4), (1e4, 1e4, -1e4)])
def test_v_and_its_gradient_are_finite_for_large_logits(
    dtype: torch.dtype, real: float, fake: float, expected: float
) -> None:
    real_logits = torch.full((3,), real, dtype=dtype, requires_grad=True)
    fake_logits = torch.full((3,), fake, dtype=dtype, requires_grad=True)
    v = calculate_v(real_logits, fake_logits)
    assert v.item() == pytest.approx(expected, rel=1e-2)
    gradients = torch.autograd.grad(v, [real_logits, fake_logits])
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_v_at_the_optimal_d_is_twice_the_jensen_shannon_divergence_less_log_4() -> None:
    p, q = torch.tensor([3, 1, 0, 4]), torch.tensor([1, 3, 2, 2])
    mean = (p + q) / 16
    divergence = sum(torch.xlogy(r / 8, (r / 8) / mean).sum() / 2 for r in (p, q))
    optimal = torch.log(p / q)
    v = calculate_v(optimal.repeat_interleave(p), optimal.repeat_interleave(q))
    torch.testing.assert_close(v, 2 * divergence - math.log(4))


def test_the_minimax_loss_has_the_gradient_of_v() -> None:
    fake = logits(8, 2).requires_grad_()
    (of_loss,) = torch.autograd.grad(minimax_loss(logits(8, 3), fake), fake)
    (of_v,) = torch.autograd.grad(calculate_v(logits(8, 3), fake), fake)
    assert torch.equal(of_loss, of_v)


def test_the_gradient_of_the_non_saturating_loss_does_not_vanish_where_that_of_minimax_does() -> None:
    fake = torch.tensor([-30.0], dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(non_saturating_loss(fake, fake), -torch.log(torch.sigmoid(fake)).mean())
    (strong,) = torch.autograd.grad(non_saturating_loss(fake, fake), fake)
    (weak,) = torch.autograd.grad(minimax_loss(fake, fake), fake)
    assert strong.item() == pytest.approx(-1)
    assert abs(weak.item()) < 1e-12


def test_the_relativistic_loss_of_g_is_that_of_d_with_the_two_sides_exchanged() -> None:
    real, fake = logits(16, 4), logits(16, 5)
    expected = -torch.log(torch.sigmoid(fake - real)).mean()
    torch.testing.assert_close(OBJECTIVES["relativistic"].generator(real, fake), expected)
    assert torch.equal(OBJECTIVES["relativistic"].discriminator(real, fake), relativistic_loss(fake, real))


def test_every_loss_that_a_recipe_can_name_has_an_objective() -> None:
    assert set(OBJECTIVES) == set(CHOICES["loss"])


def test_a_common_offset_of_all_logits_does_not_change_the_relativistic_loss() -> None:
    real, fake = logits(16, 4), logits(16, 5)
    torch.testing.assert_close(relativistic_loss(real + 7, fake + 7), relativistic_loss(real, fake))


@pytest.mark.parametrize("loss", ["minimax", "non_saturating"])
def test_d_minimises_minus_v_if_the_loss_is_not_relativistic(loss: str) -> None:
    real, fake = logits(16, 6), logits(16, 7)
    assert torch.equal(OBJECTIVES[loss].discriminator(real, fake), -calculate_v(real, fake))


def test_the_penalty_of_a_linear_discriminator_is_half_gamma_times_its_squared_norm() -> None:
    weight = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    images = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    penalty = gradient_penalty((images * weight).sum((1, 2, 3)), images, gamma=0.3)
    torch.testing.assert_close(penalty, 0.15 * weight.square().sum())


def test_the_penalty_of_a_quadratic_discriminator_has_the_closed_form_gradient_in_its_scale() -> None:
    scale = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    images = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    penalty = gradient_penalty(scale / 2 * images.square().sum((1, 2, 3)), images, gamma=2.0)
    (gradient,) = torch.autograd.grad(penalty, scale)
    mean_square = images.detach().square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(penalty, scale**2 * mean_square)
    torch.testing.assert_close(gradient, 2 * scale.detach() * mean_square)
