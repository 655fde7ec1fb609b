"""A maximum before the slope is the slope before the maximum."""

from __future__ import annotations

import pytest
import torch

from service.gan.networks import Discriminator
from training.learning.pooled import features


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_features_are_those_of_the_tables_to_the_bit_and_so_is_their_gradient_up_to_rounding(
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator().to(dtype)
    images = (torch.rand(6, 1, 32, 32) * 2 - 1).to(dtype).requires_grad_()
    found, expected = features(discriminator.layers, images), discriminator.features(images)
    assert torch.equal(found, expected)
    (one,), (other,) = (torch.autograd.grad(part.float().square().sum(), images) for part in (found, expected))
    distance = float((one - other).float().norm() / other.float().norm())
    assert distance < (0.1 if dtype == torch.bfloat16 else 1e-5)
