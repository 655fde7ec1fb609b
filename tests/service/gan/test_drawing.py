"""Laws of the compiled forward pass: the module's images, and the same bytes in every batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from service.gan import sampling
from service.gan.drawing import GROUP, draw
from service.gan.networks import Generator
from service.gan.packing import pack


def contrasting() -> Generator:
    """A generator whose random weights are so large that its images have all levels from black to white."""
    torch.manual_seed(3)
    generator = Generator().eval()
    with torch.no_grad():
        for layer in generator.layers:
            if isinstance(layer, nn.ConvTranspose2d):
                layer.weight.mul_(3)
                layer.bias.uniform_(-1, 1)  # type: ignore[union-attr]
    return generator


def test_levels_are_the_rounded_images_of_the_module() -> None:
    generator, latents = contrasting(), sampling.latents(1, 50)
    with torch.inference_mode():
        exact = (generator.double()(torch.from_numpy(latents).double())[:, 0].numpy() + 1) * 127.5
    assert np.percentile(exact, 20) < 40
    assert np.percentile(exact, 80) > 215
    levels = draw(pack(generator.float()), latents)
    # Half a level by rounding to an integer, and a hundredth by float32.
    assert np.abs(levels - exact).max() < 0.51


@pytest.mark.parametrize("layer", range(4))
def test_every_weight_and_every_bias_of_a_layer_counts(layer: int) -> None:
    """With one layer shifted, the levels follow the module."""
    generator, latents = contrasting(), sampling.latents(2, 4)
    before = draw(pack(generator), latents)
    convolution = [each for each in generator.layers if isinstance(each, nn.ConvTranspose2d)][layer]
    with torch.no_grad():
        convolution.weight.copy_(convolution.weight.flip(0, 2))
        convolution.bias.neg_()  # type: ignore[union-attr]
        exact = (generator(torch.from_numpy(latents))[:, 0].numpy() + 1) * 127.5
    after = draw(pack(generator), latents)
    assert (after != before).mean() > 0.3
    assert np.abs(after - exact).max() < 0.51


def test_without_weights_every_pixel_is_the_level_of_the_last_bias() -> None:
    generator = Generator()
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.zero_()
        last = generator.get_parameter("layers.6.bias")
        for bias in np.linspace(-12, 12, 241):
            last.fill_(float(bias))
            (image,) = draw(pack(generator), sampling.latents(0, 1))
            assert len(np.unique(image)) == 1
            assert abs(float(image[0, 0]) - (np.tanh(bias) + 1) * 127.5) < 0.5 + 1e-4


def test_an_image_has_the_same_bytes_alone_and_in_every_batch_in_any_order() -> None:
    packed, latents = pack(contrasting()), sampling.latents(5, 5 * GROUP)
    alone = np.concatenate([draw(packed, row[None]) for row in latents])
    rng = np.random.default_rng(0)
    for size in (2, 3, GROUP - 1, GROUP, GROUP + 1, 2 * GROUP, 3 * GROUP + 5, 5 * GROUP):
        rows = rng.choice(len(latents), size, replace=False)
        assert draw(packed, latents[rows]).tobytes() == alone[rows].tobytes(), size


def test_an_image_depends_on_no_earlier_one() -> None:
    packed, latents = pack(contrasting()), sampling.latents(5, 2)
    first = draw(packed, latents[:1])
    for scale in (0, 1000, -1000):
        draw(packed, latents[1:] * np.float32(scale))
        assert np.array_equal(draw(packed, latents[:1]), first)


def test_no_latents_give_no_images() -> None:
    assert draw(pack(contrasting()), np.empty((0, 128), np.float32)).shape == (0, 32, 32)
