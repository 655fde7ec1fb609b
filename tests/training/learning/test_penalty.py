"""Laws of the discriminator's penalty: value and gradient are those of the definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from service.gan.networks import Discriminator
from training.learning import penalty
from training.learning.penalty import Piece, discriminator_penalty, gradient_penalty

# Much larger than the rounding of an activation in float64, much smaller than the smallest gap of random activations.
MARGIN = 1e-12


def network(seed: int) -> Discriminator:
    torch.manual_seed(seed)
    discriminator = Discriminator().double()
    with torch.no_grad():  # a slope like that of trained networks
        discriminator.linear.weight.mul_(30)
    return discriminator


def images(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 32, 32, generator=generator, dtype=torch.float64) * 2 - 1


def margin(discriminator: Discriminator, signal: Tensor) -> float:
    """The smallest change of an activation that would change a maximum of pooling, or the slope at that maximum."""
    gaps = []
    for layer in discriminator.layers:
        if isinstance(layer, nn.MaxPool2d):
            size = layer.kernel_size
            assert isinstance(size, int)
            windows = signal.unfold(2, size, size).unfold(3, size, size).flatten(4)
            best = windows.topk(2, dim=-1).values
            gaps += [(best[..., 0] - best[..., 1]).min(), best[..., 0].abs().min()]
        signal = layer(signal)
    return float(torch.stack(gaps).min())


def on_piece(discriminator: Discriminator, signal: Tensor, pieces: list[Piece]) -> Tensor:
    """The logits (B,) of `signal` with the given maxima of pooling and slopes."""
    convolutions = [layer for layer in discriminator.layers if isinstance(layer, nn.Conv2d)]
    for convolution, piece in zip(convolutions, pieces, strict=True):
        chosen = convolution(signal).flatten(2).gather(2, piece.places.flatten(2))
        signal = chosen.view_as(piece.slopes) * piece.slopes
    logits: Tensor = discriminator.linear(signal.flatten(1)).squeeze(1)
    return logits


def assert_same(found: Tensor, expected: Tensor, discriminator: Discriminator) -> None:
    """Both penalties have the same value and the same gradients in the weights."""
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    weights = list(discriminator.parameters())
    of_expected = torch.autograd.grad(expected, weights, materialize_grads=True)
    of_found = torch.autograd.grad(found, weights, materialize_grads=True)
    assert sum(bool(gradient.any()) for gradient in of_found) == 5, "the weights, and no bias"
    for one, other in zip(of_found, of_expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("dark", [0, 12, 16])
@pytest.mark.parametrize("last", [torch.contiguous_format, torch.channels_last])
def test_value_and_gradient_are_those_of_half_gamma_times_the_mean_squared_norm(
    count: int, dark: int, last: torch.memory_format
) -> None:
    discriminator = network(count).to(memory_format=last)
    some = images(count, 1)
    # A nearly constant background, like that of a digit, but without equal maxima.
    for background in (some[:, :, :dark], some[:, :, 32 - dark :]):
        background.mul_(1e-3).sub_(0.999)
    with torch.no_grad():
        assert margin(discriminator, some) > MARGIN
    some.requires_grad_()
    expected = gradient_penalty(discriminator.logits(some), some, gamma=3.0)
    assert_same(discriminator_penalty(discriminator, some, gamma=3.0), expected, discriminator)


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("black", [12, 16])
@pytest.mark.parametrize("last", [torch.contiguous_format, torch.channels_last])
def test_on_a_constant_background_value_and_gradient_belong_to_the_same_choice_of_maxima(
    count: int, black: int, last: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    discriminator = network(count).to(memory_format=last)
    some = images(count, 1)
    # Each maximum in the background is one of several equal ones, and each choice gives another penalty.
    some[:, :, :black] = some[:, :, 32 - black :] = -1
    choose, made = penalty._choose, []

    def spy(*arguments: object) -> tuple[Tensor, list[Piece]]:
        made.append(choose(*arguments))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr(penalty, "_choose", spy)
    found = discriminator_penalty(discriminator, some, gamma=3.0)
    ((_, pieces),) = made
    some.requires_grad_()
    logits = on_piece(discriminator, some, pieces)
    torch.testing.assert_close(logits, discriminator.logits(some), rtol=1e-12, atol=1e-12)
    assert_same(found, gradient_penalty(logits, some, gamma=3.0), discriminator)


def test_the_images_get_no_gradient() -> None:
    some = images(2, 3).requires_grad_()
    torch.autograd.backward(discriminator_penalty(network(0), some, gamma=1.0))
    assert some.grad is None


def test_in_bfloat16_its_gradient_is_as_accurate_as_that_of_the_definition() -> None:
    discriminator = network(3).float()
    some = images(8, 4).float().requires_grad_()
    weights = [layer.weight for layer in discriminator.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    truth = torch.autograd.grad(discriminator_penalty(discriminator, some, gamma=1.0), weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = discriminator_penalty(discriminator, some, gamma=1.0)
        defined = gradient_penalty(discriminator.logits(some), some, gamma=1.0)
    torch.testing.assert_close(found, defined.to(found.dtype), rtol=0.05, atol=0)
    pairs = zip(torch.autograd.grad(found, weights), torch.autograd.grad(defined, weights), truth, strict=True)
    for one, other, true in pairs:
        assert float((one - true).norm()) < 1.2 * float((other - true).norm()) + 0.02 * float(true.norm())
