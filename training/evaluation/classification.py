"""The classification accuracy score: the accuracy of a classifier that learned from samples alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.evaluation.classifier import Classifier, predict
from training.evaluation.fitting import FitSettings, fit


def classification_accuracy(
    images: Tensor, labels: Tensor, test_images: Tensor, test_labels: Tensor, settings: FitSettings, seed: int
) -> float:
    """Train a small classifier on `images` with `labels` (N,), and return its accuracy on real test images.

    All images are (N, 1, 32, 32) uint8. Ravuri and Vinyals (2019) define this score. It decreases if a class lacks
    variety, or if samples are not digits. Compare it with the score of equally many real images and the same settings.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = student()
    fit(classifier, images, labels, settings, seed)
    return float((predict(classifier, test_images).classes == test_labels).double().mean())


def student() -> Classifier:
    """Three convolutions of stride 2, and a hidden layer of 64 features."""
    return Classifier(
        nn.Sequential(
            nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1),
            nn.ReLU(), nn.Flatten(), nn.Linear(64 * 4 * 4, 64), nn.ReLU(),
        ),
        64,
    )  # fmt: skip
