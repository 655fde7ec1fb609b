"""The generator that learns with batch normalisation is, folded, the published one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from service.gan.networks import LATENT_DIM, Generator
from training.learning.normalised import STATISTICS_COUNT, STATISTICS_SEED, Norm, NormalisedGenerator


@pytest.fixture
def module() -> NormalisedGenerator:
    """Weights and norms as far from their start as training takes them."""
    torch.manual_seed(0)
    module = NormalisedGenerator(Generator())
    for norm in module.norms:
        assert isinstance(norm, Norm)
        nn.init.uniform_(norm.weight, 0.3, 2)
        nn.init.normal_(norm.bias)
    return module


def test_the_folded_generator_draws_what_the_learning_one_does_where_the_statistics_are_the_same(
    module: NormalisedGenerator,
) -> None:
    latents = torch.randn(STATISTICS_COUNT, LATENT_DIM, generator=torch.Generator().manual_seed(STATISTICS_SEED))
    with torch.no_grad():
        torch.testing.assert_close(module.fold()(latents), module(latents), rtol=0, atol=2e-5)


def test_other_latents_differ_by_the_scatter_of_a_batch_alone(module: NormalisedGenerator) -> None:
    latents = torch.randn(2048, LATENT_DIM, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        difference = (module.fold()(latents) - module(latents)).abs().mean()
    assert 0 < difference < 0.03


def test_the_folded_generator_has_the_published_shape_and_no_norm(module: NormalisedGenerator) -> None:
    folded = module.fold()
    expected = Generator().state_dict()
    assert {n: t.shape for n, t in folded.state_dict().items()} == {n: t.shape for n, t in expected.items()}
    assert all(tensor.dtype == torch.float32 for tensor in folded.state_dict().values())


def test_folding_leaves_the_learning_generator_as_it_was_and_draws_no_random_numbers(
    module: NormalisedGenerator,
) -> None:
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    random_state = torch.get_rng_state()
    first, second = module.fold(), module.fold()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)


def test_the_scale_of_a_convolution_before_a_norm_is_of_no_consequence(module: NormalisedGenerator) -> None:
    latents = torch.randn(64, LATENT_DIM, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = module(latents)
        first = module.generator.layers[0]
        assert isinstance(first, nn.ConvTranspose2d)
        first.weight.mul_(7)
        torch.testing.assert_close(module(latents), before, rtol=0, atol=1e-3)
