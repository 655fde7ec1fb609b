"""Classifiers of digits, and what they see in images. What they are for is said where they are trained."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from training import data

CLASSES = 10
BATCH_ROWS = 250


class Classifier(nn.Module):
    """Images (B, 1, 32, 32) in [-1, 1] to class logits (B, 10), through features (B, F)."""

    def __init__(self, layers: nn.Sequential, width: int) -> None:
        super().__init__()
        self.layers = layers
        self.linear = nn.Linear(width, CLASSES)

    def features(self, images: Tensor) -> Tensor:
        """What enters the last linear layer, (B, F)."""
        features: Tensor = self.layers(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (B, 10)."""
        logits: Tensor = self.linear(self.features(images))
        return logits


class Reading(NamedTuple):
    """What an evaluator sees in N images."""

    features: Tensor
    """(N, F) float32."""
    probabilities: Tensor
    """(N, 10) float64; rows sum to one."""

    @property
    def classes(self) -> Tensor:
        """The most probable class of each image, (N,)."""
        return self.probabilities.argmax(1)


@torch.inference_mode()
def read(classifier: Classifier, images: Tensor) -> Reading:
    """What `classifier` sees in images (N, 1, 32, 32) uint8."""
    features, probabilities = [], []
    for batch in torch.split(images, BATCH_ROWS):
        seen = classifier.features(data.from_uint8(batch).to(memory_format=torch.channels_last))
        features.append(seen)
        probabilities.append(classifier.linear(seen).double().softmax(1))
    return Reading(torch.cat(features), torch.cat(probabilities))


def fold(classifier: Classifier) -> Classifier:
    """`classifier` in eval mode, with every normalisation folded into the layer before it, in place.

    It computes the same numbers, but for their rounding, in less time.
    """
    classifier.eval()
    for parent in [module for module in classifier.modules() if isinstance(module, nn.Sequential)]:
        for (index, layer), (behind, norm) in pairwise(enumerate(parent)):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                parent[index], parent[behind] = fuse_conv_bn_eval(layer, norm), nn.Identity()
            elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                parent[index], parent[behind] = fuse_linear_bn_eval(layer, norm), nn.Identity()
    return classifier
