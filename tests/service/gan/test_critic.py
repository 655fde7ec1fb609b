"""Laws of the critic of rejection sampling."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import leaky_relu

from service.gan import sampling
from service.gan.critic import Critic, acceptance
from service.gan.networks import FEATURES
from tests.service.gan.conftest import judge, keep_with, make_companions, networks


def test_the_critic_is_three_layers_plus_an_offset_per_digit() -> None:
    torch.manual_seed(0)
    critic = Critic()
    critic.offsets.copy_(torch.randn(10))
    features, digits = torch.randn(20, FEATURES), torch.arange(20) % 10
    found = critic(features, digits)
    first, second, last = (critic.double().layers[place] for place in (0, 2, 4))
    expected = last(leaky_relu(second(leaky_relu(first(features.double()), 0.2)), 0.2)).squeeze(1)
    torch.testing.assert_close(found, (expected + critic.offsets[digits]).float())


def test_a_row_has_the_same_bits_in_any_batch() -> None:
    companions, latents = make_companions(), sampling.latents(3, 40)
    together = judge(companions, latents)
    for rows in ([0], [39], [5, 4], list(range(33))):
        assert judge(companions, latents[rows]).tobytes() == together[rows].tobytes()


def test_the_offset_belongs_to_the_digit_of_the_classifier() -> None:
    companions, latents = make_companions(), sampling.latents(3, 40)
    images = sampling.to_input(sampling.Sampler(networks()[0])(latents))
    with torch.no_grad():  # an untrained classifier finds one digit everywhere, unless its biases are balanced
        mean = sampling.logits(companions.classifier, images).mean(0)
        companions.classifier.linear.bias.sub_(torch.from_numpy(mean))
    before = judge(companions, latents)
    digits = sampling.logits(companions.classifier, images).argmax(1)
    companions.critic.offsets.copy_(torch.arange(10.0))
    assert judge(companions, latents) - before == pytest.approx(digits, abs=1e-5)
    assert len(set(digits.tolist())) > 1


def test_on_a_tie_the_offset_is_that_of_the_smaller_digit() -> None:
    companions = keep_with(make_companions(), 0.0)
    companions.critic.offsets.copy_(torch.arange(10.0) + 1)
    with torch.no_grad():
        companions.classifier.linear.weight.zero_()
        companions.classifier.linear.bias.copy_(torch.tensor([0.0, 0, 0, 2, 0, 0, 2, 0, 0, 2]))
    assert judge(companions, sampling.latents(3, 2)).tolist() == [4, 4]


def test_acceptance_is_the_exponential_but_at_most_1() -> None:
    assert acceptance(0.0) == acceptance(50.0) == 1.0
    assert acceptance(-1.0) == pytest.approx(0.36787944117144233)
    assert acceptance(-1e6) == 0.0
