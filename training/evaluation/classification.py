"""Can a classifier learn the digits from samples alone?"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.evaluation.classifier import Classifier, read
from training.evaluation.fitting import FitSettings, fit


def classification_accuracy(
    images: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor, settings: FitSettings, seed: int
) -> float:
    """Accuracy on real test images of a small classifier that learned from `images` and `labels` (N,) alone.

    The classification accuracy score of Ravuri and Vinyals (2019), all images (N, 1, 32, 32) uint8. It notices what a
    class lacks and what is no digit; compare it with that of as many real images under the same settings.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = student()
    fit(classifier, images, labels, settings, seed)
    return float((read(classifier, test_images).classes == test_labels).double().mean())


def student() -> Classifier:
    """Three convolutions with a stride of 2 and a hidden layer of 64."""
    return Classifier(
        nn.Sequential(
            nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1),
            nn.ReLU(), nn.Flatten(), nn.Linear(64 * 4 * 4, 64), nn.ReLU(),
        ),
        64,
    )  # fmt: skip
