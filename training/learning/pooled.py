"""The convolutions of D and of the classifier, with pooling before LeakyReLU.

LeakyReLU is monotonic, so the maximum of its values is its value at the maximum. The result is the same, and LeakyReLU
processes a quarter of the elements or less. The service uses the usual order.
"""

from __future__ import annotations

from torch import Tensor, nn

from service.gan.networks import Discriminator


def features(layers: nn.Sequential, images: Tensor) -> Tensor:
    """The output (B, 128) of `layers`, triples of convolution, LeakyReLU and max pooling.

    `images` are (B, 1, 32, 32) in [-1, 1].
    """
    signal = images
    for convolution, slope, pool in zip(layers[0::3], layers[1::3], layers[2::3], strict=True):
        signal = slope(pool(convolution(signal)))
    return signal.flatten(1)


def logits(discriminator: Discriminator, images: Tensor) -> Tensor:
    """The logits (B,) float32 of `images` (B, 1, 32, 32): those of `discriminator.logits`, up to rounding.

    They depend on the batch in their last bits, which training permits, and need fewer kernels.
    """
    pooled = features(discriminator.layers, images).float()
    return (pooled * discriminator.linear.weight).sum(1) + discriminator.linear.bias
