"""The generator with batch normalisation folds into the published generator."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from service.gan.networks import LATENT_DIM, Generator
from training.learning.normalised import STATISTICS_COUNT, STATISTICS_SEED, Norm, NormalisedGenerator


@pytest.fixture(scope="module")
def module() -> NormalisedGenerator:
    """A generator with norms as far from their initial values as after training. Tests change copies only."""
    torch.manual_seed(0)
    module = NormalisedGenerator(Generator())
    for norm in module.norms:
        assert isinstance(norm, Norm)
        nn.init.uniform_(norm.weight, 0.3, 2)
        nn.init.normal_(norm.bias)
    return module


@pytest.fixture(scope="module")
def folded(module: NormalisedGenerator) -> Generator:
    """The published generator that `module` folds into. Read-only."""
    return copy.deepcopy(module).fold()


def test_on_the_latents_of_the_statistics_the_folded_generator_equals_the_training_one(
    module: NormalisedGenerator, folded: Generator
) -> None:
    latents = torch.randn(STATISTICS_COUNT, LATENT_DIM, generator=torch.Generator().manual_seed(STATISTICS_SEED))
    with torch.no_grad():
        # Both are float32, and pixels are in (-1, 1).
        torch.testing.assert_close(folded(latents), module(latents), rtol=0, atol=2e-5)


def test_on_other_latents_the_two_differ_by_the_sampling_error_of_the_statistics(
    module: NormalisedGenerator, folded: Generator
) -> None:
    latents = torch.randn(2048, LATENT_DIM, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        difference = (folded(latents) - module(latents)).abs().mean()
    assert 0 < difference < 0.03


def test_the_folded_generator_has_the_published_architecture_without_norms(folded: Generator) -> None:
    expected = Generator().state_dict()
    assert {n: t.shape for n, t in folded.state_dict().items()} == {n: t.shape for n, t in expected.items()}
    assert all(tensor.dtype == torch.float32 for tensor in folded.state_dict().values())


def test_folding_is_repeatable_and_changes_neither_weights_nor_the_global_random_state(
    module: NormalisedGenerator, folded: Generator
) -> None:
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    random_state = torch.get_rng_state()
    again = module.fold()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(folded.parameters(), again.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)


def test_scaling_a_convolution_before_a_norm_changes_nothing(module: NormalisedGenerator) -> None:
    latents = torch.randn(64, LATENT_DIM, generator=torch.Generator().manual_seed(1))
    scaled = copy.deepcopy(module)
    with torch.no_grad():
        before = module(latents)
        first = scaled.generator.layers[0]
        assert isinstance(first, nn.ConvTranspose2d)
        first.weight.mul_(7)
        # The ε in the normalisation is not scaled.
        torch.testing.assert_close(scaled(latents), before, rtol=0, atol=1e-3)
