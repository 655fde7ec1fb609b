"""A maximum before the slope is the slope before the maximum."""

from __future__ import annotations

import pytest
import torch

from service.gan.networks import Discriminator
from training.learning.pooled import features


# A slope can round two activations to one number, and the two orders then differentiate different ones. That is common
# in bfloat16, happens now and then in float32, and never in float64.
@pytest.mark.parametrize(
    ("dtype", "allowed"), [(torch.float64, 1e-12), (torch.float32, 0.05), (torch.bfloat16, 0.1)], ids=str
)
def test_the_features_are_those_of_the_tables_to_the_bit_and_so_is_their_gradient_up_to_rounding(
    dtype: torch.dtype, allowed: float
) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator().to(dtype)
    images = (torch.rand(6, 1, 32, 32, dtype=torch.float64) * 2 - 1).to(dtype).requires_grad_()
    found, expected = features(discriminator.layers, images), discriminator.features(images)
    assert torch.equal(found, expected)
    (one,), (other,) = (torch.autograd.grad(part.double().square().sum(), images) for part in (found, expected))
    assert float((one - other).double().norm() / other.double().norm()) < allowed
