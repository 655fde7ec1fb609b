"""A second critic beside D: it sees images as a classifier of digits does, and so notices what is no digit.

D looks at pixels, and much of what it finds there is texture. Between two digits, where a connected latent space has to
lead through images that are neither, its gradient is weak. A critic of the features of a frozen classifier sees little
else (Sauer et al., "Projected GANs Converge Faster", 2021). The classifier is none of the evaluators, nor the one that
runs are chosen by.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from service.gan.classifier import Classifier
from service.gan.critic import ratio_layers
from service.gan.networks import FEATURES
from training.learning.pooled import features

STANDARDISED_ON = 4096
# A feature that is hardly ever more than zero is not blown up.
LEAST_SCALE = 1e-3


class FeatureCritic(nn.Module):
    """Features (B, 128) of images to the logit (B,) of their being real. Only `layers` learn."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.classifier = Classifier().eval().requires_grad_(False)
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        self.layers = ratio_layers()

    @torch.no_grad()
    def look_through(self, classifier: Classifier, images: Tensor) -> None:
        """See as `classifier` does, with features standardised by those of real `images` (N, 1, 32, 32)."""
        self.classifier.load_state_dict(classifier.state_dict())
        known = features(self.classifier.layers, images[:STANDARDISED_ON])
        self.mean.copy_(known.mean(0))
        self.scale.copy_(known.std(0) + LEAST_SCALE)

    def features(self, images: Tensor) -> Tensor:
        """Standardised features (B, 128) float32 of images (B, 1, 32, 32); gradients go through to the images."""
        seen = features(self.classifier.layers, images).float()
        return (seen - self.mean) / self.scale

    def logits(self, features: Tensor) -> Tensor:
        """The logits (B,) of `features`."""
        logits: Tensor = self.layers(features).squeeze(1)
        return logits
