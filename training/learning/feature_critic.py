"""A second critic beside D. Its input is the features of a digit classifier, so it recognises images that are no digit.

D works on pixels, and separates real from generated images mostly by texture. A connected latent space must contain
images between two digits, and there D's gradient is weak. A critic on the features of a frozen classifier has a strong
gradient there (Sauer et al., "Projected GANs Converge Faster", 2021). The classifier is not an evaluator, and not the
one by which runs are selected.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from service.gan.classifier import Classifier
from service.gan.critic import ratio_layers
from service.gan.networks import FEATURES
from training.learning.pooled import features

# Number of real images whose features give the mean and the scale.
STANDARDISED_ON = 4096
# Added to each standard deviation, so that features that are nearly always 0 are not scaled up.
MIN_SCALE = 1e-3


class FeatureCritic(nn.Module):
    """Maps features (B, 128) of images to the logits (B,) of being real. Only `layers` are trained."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.classifier = Classifier().eval().requires_grad_(False)
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("scale", torch.ones(FEATURES))
        self.layers = ratio_layers()

    @torch.no_grad()
    def use_classifier(self, classifier: Classifier, images: Tensor) -> None:
        """Use the features of `classifier`, standardised by those of real `images` (N, 1, 32, 32)."""
        self.classifier.load_state_dict(classifier.state_dict())
        known = features(self.classifier.layers, images[:STANDARDISED_ON])
        self.mean.copy_(known.mean(0))
        self.scale.copy_(known.std(0) + MIN_SCALE)

    def features(self, images: Tensor) -> Tensor:
        """Standardised features (B, 128) float32 of images (B, 1, 32, 32), differentiable in the images."""
        raw = features(self.classifier.layers, images).float()
        return (raw - self.mean) / self.scale

    def logits(self, features: Tensor) -> Tensor:
        """The logits (B,) of standardised `features` (B, 128)."""
        logits: Tensor = self.layers(features).squeeze(1)
        return logits
