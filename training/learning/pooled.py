"""The convolutions of D and of the classifier, with every maximum taken before the slope.

LeakyReLU keeps order, so that the maximum of its values is its value at the maximum: the same numbers, from a quarter
of the elements or less. What serves keeps the order of the tables.
"""

from __future__ import annotations

from torch import Tensor, nn

from service.gan.networks import Discriminator


def features(layers: nn.Sequential, images: Tensor) -> Tensor:
    """What `layers`, triples of convolution, LeakyReLU and maximum, make of `images` (B, 1, 32, 32), (B, 128)."""
    signal = images
    for convolution, slope, pool in zip(layers[0::3], layers[1::3], layers[2::3], strict=True):
        signal = slope(pool(convolution(signal)))
    return signal.flatten(1)


def logits(discriminator: Discriminator, images: Tensor) -> Tensor:
    """`discriminator.logits` up to rounding, (B,) float32, in a few kernels: learning needs no batch invariance."""
    seen = features(discriminator.layers, images).float()
    return (seen * discriminator.linear.weight).sum(1) + discriminator.linear.bias
