"""Laws of the discriminator's penalty: it is the gradient penalty of its definition, in value and in gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from service.gan.networks import Discriminator
from training.learning.penalty import discriminator_penalty, gradient_penalty


def network(seed: int) -> Discriminator:
    torch.manual_seed(seed)
    discriminator = Discriminator().double()
    with torch.no_grad():  # as steep as trained ones are
        discriminator.linear.weight.mul_(30)
    return discriminator


def images(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 32, 32, generator=generator, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("black", [0, 12, 16])
@pytest.mark.parametrize("last", [torch.contiguous_format, torch.channels_last])
def test_it_is_half_gamma_times_the_mean_squared_norm_and_has_its_gradient(
    count: int, black: int, last: torch.memory_format
) -> None:
    discriminator = network(count).to(memory_format=last)
    some = images(count, 1)
    # Where a digit is not, all pixels are the same, and every maximum is one of many.
    some[:, :, :black] = some[:, :, 32 - black :] = -1
    some.requires_grad_()
    expected = gradient_penalty(discriminator.logits(some), some, gamma=3.0)
    found = discriminator_penalty(discriminator, some, gamma=3.0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    weights = list(discriminator.parameters())
    of_expected = torch.autograd.grad(expected, weights, materialize_grads=True)
    of_found = torch.autograd.grad(found, weights, materialize_grads=True)
    assert sum(bool(gradient.any()) for gradient in of_found) == 5, "the weights, and no bias"
    for one, other in zip(of_found, of_expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


def test_nothing_flows_into_the_images() -> None:
    some = images(2, 3).requires_grad_()
    torch.autograd.backward(discriminator_penalty(network(0), some, gamma=1.0))
    assert some.grad is None


def test_under_bfloat16_it_is_as_near_to_the_truth_as_its_definition_is() -> None:
    discriminator = network(3).float()
    some = images(8, 4).float()
    some[:, :, :10] = -1
    some.requires_grad_()
    weights = [layer.weight for layer in discriminator.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    truth = torch.autograd.grad(discriminator_penalty(discriminator, some, gamma=1.0), weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = discriminator_penalty(discriminator, some, gamma=1.0)
        defined = gradient_penalty(discriminator.logits(some), some, gamma=1.0)
    torch.testing.assert_close(found, defined.to(found.dtype), rtol=0.05, atol=0)
    pairs = zip(torch.autograd.grad(found, weights), torch.autograd.grad(defined, weights), truth, strict=True)
    for one, other, true in pairs:
        assert float((one - true).norm()) < 1.2 * float((other - true).norm()) + 0.02 * float(true.norm())
