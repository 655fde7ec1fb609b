"""Classifiers of digits for measurement, and their predictions: features and class probabilities."""

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
    """Maps images (B, 1, 32, 32) in [-1, 1] to features (B, F), and these to class logits (B, 10)."""

    def __init__(self, layers: nn.Sequential, width: int) -> None:
        super().__init__()
        self.layers = layers
        self.linear = nn.Linear(width, CLASSES)

    def features(self, images: Tensor) -> Tensor:
        """The input (B, F) of the last linear layer."""
        features: Tensor = self.layers(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """The class logits (B, 10)."""
        logits: Tensor = self.linear(self.features(images))
        return logits


class Predictions(NamedTuple):
    """The features and class probabilities of N images."""

    features: Tensor
    """(N, F) float32."""
    probabilities: Tensor
    """(N, 10) float64; each row sums to one."""

    @property
    def classes(self) -> Tensor:
        """The most probable class of each image, (N,)."""
        return self.probabilities.argmax(1)


@torch.inference_mode()
def predict(classifier: Classifier, images: Tensor) -> Predictions:
    """Apply `classifier` to images (N, 1, 32, 32) uint8, in batches."""
    features, probabilities = [], []
    for batch in torch.split(images, BATCH_ROWS):
        batch_features = classifier.features(data.from_uint8(batch).to(memory_format=torch.channels_last))
        features.append(batch_features)
        probabilities.append(classifier.linear(batch_features).double().softmax(1))
    return Predictions(torch.cat(features), torch.cat(probabilities))


def fold(classifier: Classifier) -> Classifier:
    """Put `classifier` in eval mode and fold every normalisation into the layer before it, in place.

    The results are the same up to rounding, in less time.
    """
    classifier.eval()
    for parent in [module for module in classifier.modules() if isinstance(module, nn.Sequential)]:
        for (index, layer), (following, norm) in pairwise(enumerate(parent)):
            if isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                parent[index], parent[following] = fuse_conv_bn_eval(layer, norm), nn.Identity()
            elif isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
                parent[index], parent[following] = fuse_linear_bn_eval(layer, norm), nn.Identity()
    return classifier
