"""Pooling before the activation equals pooling after it, because LeakyReLU is monotonic."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from service.gan.networks import Discriminator
from training.learning.pooled import features

# The slope rounds a value by at most half a rounding step. Two values that are eight steps apart stay different.
MARGIN = 8


def margins(layers: nn.Sequential, images: Tensor) -> Tensor:
    """The smallest gap between the two largest values of a pooling window, in rounding steps, for each image, (B,)."""
    signal, smallest = images, torch.full((len(images),), torch.inf, dtype=torch.float64)
    for convolution, slope, pool in zip(layers[0::3], layers[1::3], layers[2::3], strict=True):
        before = convolution(signal)
        assert isinstance(pool, nn.MaxPool2d)
        size = pool.kernel_size
        assert isinstance(size, int)
        assert pool.stride == size
        assert pool.padding == 0
        windows = before.unfold(2, size, size).unfold(3, size, size).flatten(4)
        top = windows.topk(2, dim=-1).values.double()
        step = top.abs().amax(-1) * torch.finfo(images.dtype).eps
        gaps = (top[..., 0] - top[..., 1]) / step
        smallest = torch.minimum(smallest, gaps.flatten(1).amin(1))
        signal = pool(slope(before))
    return smallest


def noise_images(count: int, dtype: torch.dtype) -> Tensor:
    """Uniform noise in [-1, 1], (`count`, 1, 32, 32)."""
    return (torch.rand(count, 1, 32, 32, dtype=torch.float64) * 2 - 1).to(dtype)


def gradients_of_squares(discriminator: Discriminator, images: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of the squared norm of the features, pooled before and after the slope, (B, 1, 32, 32) each."""
    images = images.requires_grad_()
    found, expected = features(discriminator.layers, images), discriminator.features(images)
    assert torch.equal(found, expected)
    (one,), (other,) = (torch.autograd.grad(part.double().square().sum(), images) for part in (found, expected))
    return one, other


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
def test_without_ties_both_orders_have_equal_features_and_gradients_equal_up_to_rounding(
    dtype: torch.dtype, allowed: float
) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator().to(dtype)
    candidates = noise_images(48, dtype)
    # The slope can round two values to one number, and the two orders then differentiate different pixels. A random
    # image has such a tie in float32 now and then, so the test keeps the images whose every margin rules it out.
    with torch.no_grad():
        images = candidates[margins(discriminator.layers, candidates) > MARGIN][:6].clone()
    assert len(images) == 6
    with torch.no_grad():
        assert bool((margins(discriminator.layers, images) > MARGIN).all())
    one, other = gradients_of_squares(discriminator, images)
    assert float((one - other).double().norm() / other.double().norm()) < allowed


def test_in_bfloat16_ties_are_common_and_the_gradients_still_agree_to_a_tenth() -> None:
    torch.manual_seed(0)
    one, other = gradients_of_squares(Discriminator().to(torch.bfloat16), noise_images(6, torch.bfloat16))
    assert float((one - other).double().norm() / other.double().norm()) < 0.1
