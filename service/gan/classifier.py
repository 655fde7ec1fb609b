"""Classifiers of digits: one for images, and one for latents, which does not need the image.

`python -m training companions` trains both offline. The classifier of latents learns the outputs of the image
classifier for G(z) (Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from .networks import FEATURES, LATENT_DIM, NEGATIVE_SLOPE, convolutions, in_pairs, linear

DIGITS = 10
HIDDEN = 256


class Classifier(nn.Module):
    """Images (B, 1, 32, 32) in [-1, 1] to class logits (B, 10).

    It has the convolutions of the discriminator, and 98,442 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = convolutions()
        self.linear = nn.Linear(FEATURES, DIGITS)

    def features(self, images: Tensor) -> Tensor:
        """Inputs (B, 128) of the last linear layer. A row's bits do not depend on the other rows."""
        return in_pairs(self.layers, images)

    def logits(self, features: Tensor) -> Tensor:
        """Class logits (B, 10) of `features` (B, 128). A row's bits do not depend on the other rows."""
        return linear(features, self.linear)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (B, 10) of `images` (B, 1, 32, 32)."""
        return self.logits(self.features(images))


class LatentClassifier(nn.Module):
    """Latents (B, 128) to the class logits (B, 10) of their images.

    A row's last bits depend on the number of rows, so reproducible results need a fixed number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(LATENT_DIM, HIDDEN),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Linear(HIDDEN, HIDDEN),
            nn.LeakyReLU(NEGATIVE_SLOPE),
            nn.Linear(HIDDEN, DIGITS),
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Class logits (B, 10) of the images of `latents` (B, 128)."""
        logits: Tensor = self.layers(latents)
        return logits


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax (B, 10) of `logits` (B, 10), computed in float64. A row's bits do not depend on the other rows."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares.astype(np.float32)
