"""Laws of inversion: images of the generator are reconstructed, and results do not depend on the batch."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from service.gan import checkpoint, sampling
from service.gan.inversion import GOOD_RESIDUAL, Inverter
from service.gan.jobs import InvertJob
from service.gan.networks import Discriminator, Generator
from tests.e2e.conftest import ROOT
from tests.service.gan.conftest import new_worker

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def generator() -> Generator:
    """The generator of the published checkpoint."""
    return checkpoint.load(ROOT / "checkpoints")[0]


@pytest.fixture(scope="module")
def inverter(generator: Generator) -> Inverter:
    return Inverter(generator)


def drawn(generator: Generator, count: int) -> list[torch.Tensor]:
    images = sampling.Sampler(generator)(sampling.latents(11, count))
    return [torch.from_numpy(image).float() for image in images]


def test_the_slopes_are_those_of_autograd(generator: Generator, inverter: Inverter) -> None:
    latent = torch.from_numpy(sampling.latents(1, 1)[0])
    image, slopes = inverter._linearise(latent)
    expected = torch.func.jacrev(lambda z: generator(z[None]).reshape(-1))(latent)
    torch.testing.assert_close(slopes.T, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(image, generator(latent[None]).reshape(-1).detach(), rtol=1e-4, atol=1e-5)


def test_images_of_the_generator_are_inverted_to_within_a_grey_level(generator: Generator, inverter: Inverter) -> None:
    for image in drawn(generator, 4):
        found = inverter.invert(image, 1.0)
        assert found.converged
        assert found.residual <= GOOD_RESIDUAL
        again = sampling.Sampler(generator)(found.latent.numpy()[None])[0].astype(np.float64)
        assert np.sqrt(np.square(again - image.numpy()).mean()) <= GOOD_RESIDUAL + 0.5


def test_a_larger_prior_weight_gives_a_shorter_latent_and_a_larger_residual(
    generator: Generator, inverter: Inverter
) -> None:
    (image,) = drawn(generator, 1)
    found = [inverter.invert(image, weight) for weight in (0.0, 1e3, 1e5)]
    lengths = [float(inversion.latent.norm()) for inversion in found]
    assert lengths[0] > lengths[1] > lengths[2]
    assert found[0].residual < found[1].residual < found[2].residual


def test_a_cancelled_inversion_stops_at_once(generator: Generator, inverter: Inverter) -> None:
    (image,) = drawn(generator, 1)
    assert inverter.invert(image, 1.0, cancelled=lambda: True).iterations == 0


def test_an_inversion_is_the_same_alone_and_in_any_batch(generator: Generator) -> None:
    worker = new_worker(generator, Discriminator(), CPU)
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28), np.uint8)
    images[1] = 0

    def invert(order: list[int]) -> list[tuple[bytes, float, int]]:
        (result,) = worker([InvertJob(images[order], 1e3, threading.Event())])
        assert result.inversions is not None
        return [(i.latent.numpy().tobytes(), i.residual, i.iterations) for i in result.inversions]

    (first,), (second,) = invert([0]), invert([1])
    assert invert([1, 0]) == [second, first]
