"""The generator and the discriminator. Their architectures are the same for all recipes of training.

Both follow the value function of Goodfellow et al., "Generative Adversarial Nets" (2014), eq. 1: D(x) is the
probability that x is a real image, and G maps a standard Gaussian latent to an image.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

LATENT_DIM = 128
IMAGE_SIZE = 32
NEGATIVE_SLOPE = 0.2
CHANNELS = (1, 16, 32, 64, 128)
FEATURES = CHANNELS[-1]


def convolutions() -> nn.Sequential:
    """Images (B, 1, 32, 32) to features (B, 128, 1, 1): four 3x3 convolutions, each with LeakyReLU and max pooling."""
    layers: list[nn.Module] = []
    for (inputs, outputs), pool in zip(pairwise(CHANNELS), (2, 2, 2, 4), strict=True):
        layers += [
            nn.Conv2d(inputs, outputs, 3, stride=1, padding=1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.MaxPool2d(pool),
        ]
    return nn.Sequential(*layers)


def in_pairs(layers: nn.Sequential, images: Tensor) -> Tensor:
    """Flattened outputs (B, 128) of `layers`, made by `convolutions`, for `images` (B, 1, 32, 32).

    A row has the same bits in any batch.
    """
    # Convolutions use a different kernel for a single image than for two or more, with different last bits. A single
    # image is therefore computed as one of a pair.
    batch = images.expand(2, -1, -1, -1) if images.shape[0] == 1 else images
    features: Tensor = layers(batch).flatten(1)
    return features[: images.shape[0]]


def linear(features: Tensor, layer: nn.Linear) -> Tensor:
    """Outputs (B, outputs) of `layer` for `features` (B, F), F a power of two. A row has the same bits in any batch."""
    # Matrix products and sums use a different kernel for one row than for many, so their last bits would depend on the
    # batch. Repeated halving adds elementwise, in a fixed order.
    terms = features.unsqueeze(1) * layer.weight
    while terms.shape[2] > 1:
        left, right = terms.chunk(2, dim=2)
        terms = left + right
    return terms.squeeze(2) + layer.bias


class Generator(nn.Module):
    """G: latents (B, 128), from N(0, I), to images (B, 1, 32, 32) in (-1, 1). 172,401 parameters.

    Four transposed convolutions, 1x1 -> 4x4 -> 8x8 -> 16x16 -> 32x32, with LeakyReLU between them and Tanh at the end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(LATENT_DIM, 64, 4, stride=1, padding=0),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Images (B, 1, 32, 32) of `latents` (B, 128)."""
        images: Tensor = self.layers(latents.reshape(-1, LATENT_DIM, 1, 1))
        return images


class Discriminator(nn.Module):
    """D: images (B, 1, 32, 32) in [-1, 1] to the probability (B,) of being real. 97,281 parameters.

    Four 3x3 convolutions, each with LeakyReLU and max pooling, 32x32 -> 16x16 -> 8x8 -> 4x4 -> 1x1; then one linear
    layer and a sigmoid.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = convolutions()
        self.linear = nn.Linear(FEATURES, 1)

    def features(self, images: Tensor) -> Tensor:
        """Inputs (B, 128) of the last linear layer, for `images` (B, 1, 32, 32)."""
        return in_pairs(self.layers, images)

    def logits(self, images: Tensor) -> Tensor:
        """log(D / (1 - D)), (B,), for `images` (B, 1, 32, 32)."""
        return linear(self.features(images), self.linear).squeeze(1)

    def forward(self, images: Tensor) -> Tensor:
        """The probability D (B,) that each of `images` (B, 1, 32, 32) is real, in (0, 1)."""
        return torch.sigmoid(self.logits(images))
