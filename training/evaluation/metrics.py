"""All metrics of one set of samples by one evaluator."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from training.evaluation import fidelity
from training.evaluation.class_scores import class_divergence, mnist_score
from training.evaluation.classifier import CLASSES, Predictions
from training.evaluation.frechet import frechet_distance, frechet_limit
from training.evaluation.kernel_distance import kernel_distance
from training.evaluation.neighbours import Balls, balls


class Metric(NamedTuple):
    """The title, direction and printed form of a metric."""

    title: str
    lower_is_better: bool
    decimals: int
    has_ratio: bool = True
    """Whether its ratio to the floor is meaningful. It is not for a metric that is about 0 for real images."""


METRICS = {
    "frechet": Metric("Fréchet distance", True, 3),
    "frechet_limit": Metric("Fréchet distance, N → ∞", True, 3, has_ratio=False),
    "kernel_distance": Metric("Kernel distance", True, 5, has_ratio=False),
    "precision": Metric("Precision", False, 3),
    "recall": Metric("Recall", False, 3),
    "density": Metric("Density", False, 3),
    "coverage": Metric("Coverage", False, 3),
    "mnist_score": Metric("MNIST score", False, 3),
    "class_kl": Metric("Class KL, nats", True, 4, has_ratio=False),
}


class Reference(NamedTuple):
    """Real images in the features of one evaluator, with which samples are compared."""

    features: Tensor
    """Features (M, F) of the test images."""
    centre: Tensor
    """Their mean, (F,)."""
    near: Balls
    """Balls for precision and recall."""
    wide: Balls
    """Balls for density and coverage."""
    class_counts: Tensor
    """Number of training labels in each class, (10,)."""


def make_reference(test_features: Tensor, train_labels: Tensor) -> Reference:
    """The reference for test images with features (M, F), and training labels (N,) int64."""
    centre = test_features.mean(0)
    centred = test_features - centre
    return Reference(
        test_features,
        centre,
        balls(centred, fidelity.PRECISION_NEIGHBOURS),
        balls(centred, fidelity.DENSITY_NEIGHBOURS),
        torch.bincount(train_labels, minlength=CLASSES),
    )


def measure(samples: Predictions, reference: Reference) -> dict[str, float]:
    """All METRICS of N samples, by name.

    `samples` are the predictions of the reference's evaluator. N must be the number of test images.
    """
    centred = samples.features - reference.centre
    fractions = fidelity.precision_recall(reference.near, balls(centred, fidelity.PRECISION_NEIGHBOURS))
    return {
        "frechet": frechet_distance(samples.features, reference.features),
        "frechet_limit": frechet_limit(samples.features, reference.features),
        "kernel_distance": kernel_distance(samples.features, reference.features),
        **fractions._asdict(),
        **fidelity.density_coverage(reference.wide, centred)._asdict(),
        "mnist_score": mnist_score(samples.probabilities),
        "class_kl": class_divergence(torch.bincount(samples.classes, minlength=CLASSES), reference.class_counts),
    }
