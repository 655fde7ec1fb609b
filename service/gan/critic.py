"""The critic of rejection sampling: the ratio of an image's density among real images to that among generated ones.

The critic sees the features of the digit classifier. In pixels, a texture that all generated images share separates
them from real ones. A critic of pixels would select by that texture, and would favour some digits. The classifier's
features hardly show the texture, but they show images that are not a digit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .classifier import DIGITS, Classifier
from .networks import FEATURES, NEGATIVE_SLOPE, linear

WIDTH = 256


def ratio_layers() -> nn.Sequential:
    """Three layers from features (B, 128) to logits (B, 1) of being real: the architecture of all feature critics."""
    return nn.Sequential(
        nn.Linear(FEATURES, WIDTH),
        nn.LeakyReLU(NEGATIVE_SLOPE),
        nn.Linear(WIDTH, WIDTH),
        nn.LeakyReLU(NEGATIVE_SLOPE),
        nn.Linear(WIDTH, 1),
    )


class Critic(nn.Module):
    """Features (B, 128) and digits (B,) of images to the log of the probability (B,) of keeping them.

    `layers` estimate log(p_real/p_G) - log M, and `offsets` (10,) balance the digits. A log above 0 means a probability
    of 1.
    """

    offsets: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layers = ratio_layers()
        self.register_buffer("offsets", torch.zeros(DIGITS))

    def forward(self, features: Tensor, digits: Tensor) -> Tensor:
        """Logs (B,) for `features` (B, 128) and `digits` (B,). A row's bits do not depend on the other rows."""
        signal: Tensor = features
        for layer in self.layers:
            signal = linear(signal, layer) if isinstance(layer, nn.Linear) else layer(signal)
        logs: Tensor = signal.squeeze(1) + self.offsets[digits]
        return logs

    def judge(self, classifier: Classifier, images: Tensor) -> Tensor:
        """Logs (B,) for `images` (B, 1, 32, 32) in [-1, 1].

        `classifier` gives the features and the digits: the most likely digit, or the smaller one on a tie.
        """
        features = classifier.features(images)
        logs: Tensor = self(features, classifier.logits(features).argmax(1))
        return logs


def acceptance(log_probability: float) -> float:
    """The probability of keeping an image, in [0, 1].

    Azadi et al., "Discriminator Rejection Sampling" (2019), eq. 8 with ε = 0. M is a high quantile of the ratio instead
    of its maximum, and this shift replaces their γ.
    """
    return math.exp(min(0.0, log_probability))
