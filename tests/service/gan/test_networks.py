"""Laws of the two networks: their architecture is fixed, and no result depends on the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from service.gan.networks import IMAGE_SIZE, LATENT_DIM, Discriminator, Generator

# Every size up to a few vector widths, then both sides of typical block sizes.
SIZES = (*range(1, 34), 47, 48, 49, 63, 64, 65, 127, 128, 129, 200, 255, 256)
Network = TypeVar("Network", bound=nn.Module)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(make: Callable[[], Network]) -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def latents(count: int) -> Tensor:
    return torch.randn(count, LATENT_DIM, generator=torch.Generator().manual_seed(0))


def images(count: int) -> Tensor:
    return torch.rand(count, 1, IMAGE_SIZE, IMAGE_SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(("make", "expected"), [(Generator, 172_401), (Discriminator, 97_281)])
def test_the_number_of_parameters_is_as_documented(make: Callable[[], nn.Module], expected: int) -> None:
    assert sum(parameter.numel() for parameter in make().parameters()) == expected


def test_the_generator_is_four_transposed_convolutions() -> None:
    convolutions = [layer for layer in Generator().modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding) for c in convolutions] == [
        (128, 64, (4, 4), (1, 1), (0, 0)),
        (64, 32, (4, 4), (2, 2), (1, 1)),
        (32, 16, (4, 4), (2, 2), (1, 1)),
        (16, 1, (4, 4), (2, 2), (1, 1)),
    ]


def test_the_discriminator_is_four_convolutions_with_pooling_and_one_linear_layer() -> None:
    modules = list(Discriminator().modules())
    convolutions = [layer for layer in modules if isinstance(layer, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding) for c in convolutions] == [
        (inputs, outputs, (3, 3), (1, 1), (1, 1)) for inputs, outputs in ((1, 16), (16, 32), (32, 64), (64, 128))
    ]
    assert [layer.kernel_size for layer in modules if isinstance(layer, nn.MaxPool2d)] == [2, 2, 2, 4]
    (linear,) = (layer for layer in modules if isinstance(layer, nn.Linear))
    assert (linear.in_features, linear.out_features) == (128, 1)


@pytest.mark.parametrize("make", [Generator, Discriminator])
def test_leaky_units_have_slope_0_2_and_every_layer_has_a_bias(make: Callable[[], nn.Module]) -> None:
    layers = list(make().modules())
    assert {layer.negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)} == {0.2}
    assert all(layer.bias is not None for layer in layers if hasattr(layer, "weight"))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_shapes_and_ranges(count: int) -> None:
    fake = seeded(Generator)(latents(count))
    assert fake.shape == (count, 1, IMAGE_SIZE, IMAGE_SIZE)
    assert fake.abs().max() < 1
    discriminator = seeded(Discriminator)
    probability = discriminator(fake)
    assert probability.shape == discriminator.logits(fake).shape == (count,)
    assert discriminator.features(fake).shape == (count, 128)
    assert ((probability > 0) & (probability < 1)).all()


def test_logits_are_the_linear_layer_of_the_features_and_probabilities_their_sigmoid() -> None:
    discriminator = seeded(Discriminator).double()
    real = images(9).double()
    expected = discriminator.linear(discriminator.features(real)).squeeze(1)
    torch.testing.assert_close(discriminator.logits(real), expected)
    assert torch.equal(discriminator(real), torch.sigmoid(discriminator.logits(real)))


@torch.inference_mode()
def test_an_image_is_the_same_bit_for_bit_in_a_batch_of_any_size() -> None:
    generator, z = seeded(Generator), latents(SIZES[-1])
    alone = torch.cat([generator(row) for row in torch.split(z, 1)])
    for count in SIZES:
        assert torch.equal(generator(z[:count]), alone[:count]), count


@torch.inference_mode()
def test_a_logit_is_the_same_bit_for_bit_in_a_batch_of_any_size() -> None:
    discriminator, real = seeded(Discriminator), images(SIZES[-1])
    alone = torch.cat([discriminator.logits(row) for row in torch.split(real, 1)])
    for count in SIZES:
        assert torch.equal(discriminator.logits(real[:count]), alone[:count]), count


@torch.inference_mode()
def test_results_follow_their_rows_in_any_order() -> None:
    generator, discriminator, z = seeded(Generator), seeded(Discriminator), latents(33)
    order = torch.randperm(33, generator=torch.Generator().manual_seed(1))
    fake = generator(z)
    assert torch.equal(generator(z[order]), fake[order])
    assert torch.equal(discriminator.logits(fake[order]), discriminator.logits(fake)[order])


@pytest.mark.parametrize("count", [1, 4])
def test_the_gradient_at_an_image_does_not_depend_on_the_others(count: int) -> None:
    discriminator, real = seeded(Discriminator).double(), images(4).double().requires_grad_()
    (together,) = torch.autograd.grad(discriminator.logits(real).sum(), real)
    some = real.detach()[:count].requires_grad_()
    (apart,) = torch.autograd.grad(discriminator.logits(some).sum(), some)
    torch.testing.assert_close(apart, together[:count])


def test_second_derivatives_agree_with_finite_differences() -> None:
    discriminator, real = seeded(Discriminator).double(), images(3).double().requires_grad_()
    weight = discriminator.linear.weight

    def penalty() -> Tensor:
        (gradient,) = torch.autograd.grad(discriminator.logits(real).sum(), real, create_graph=True)
        return gradient.square().sum()

    (gradient,) = torch.autograd.grad(penalty(), weight)
    direction, step = weight.detach().flip(1), 1e-5
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(sign * step * direction)
        values.append(penalty().item())
        with torch.no_grad():
            weight.sub_(sign * step * direction)
    numerical = (values[0] - values[1]) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(numerical, rel=1e-5)


def test_second_derivatives_exist_under_bfloat16_autocast() -> None:
    discriminator, real = seeded(Discriminator), images(4).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = discriminator.logits(real)
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        penalty = gradient.square().sum()
    assert logits.dtype == gradient.dtype == torch.float32
    second = torch.autograd.grad(penalty, list(discriminator.parameters()), allow_unused=True)
    used = [tensor for tensor in second if tensor is not None]
    assert used
    assert all(tensor.isfinite().all() for tensor in used)
    assert any(tensor.abs().max() > 0 for tensor in used)
