"""All metrics of one set of samples, in the eyes of one evaluator."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from training.evaluation import fidelity
from training.evaluation.class_scores import class_divergence, mnist_score
from training.evaluation.classifier import CLASSES, Reading
from training.evaluation.frechet import frechet_distance, frechet_limit
from training.evaluation.kernel_distance import kernel_distance
from training.evaluation.neighbours import Balls, balls


class Metric(NamedTuple):
    """How a metric is called, read and printed."""

    title: str
    lower_is_better: bool
    decimals: int
    has_ratio: bool = True
    """Whether its ratio to the floor means something: a metric that is about 0 for real images has none."""


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
    """What samples are compared with: real images, as one evaluator sees them."""

    features: Tensor
    """(M, F) of the test images."""
    centre: Tensor
    """(F,), their mean."""
    near: Balls
    """For precision and recall."""
    wide: Balls
    """For density and coverage."""
    class_counts: Tensor
    """(10,) of the training labels."""


def refer(test_features: Tensor, train_labels: Tensor) -> Reference:
    """The reference made of the test images' features (M, F) and the training labels."""
    centre = test_features.mean(0)
    centred = test_features - centre
    return Reference(
        test_features,
        centre,
        balls(centred, fidelity.PRECISION_NEIGHBOURS),
        balls(centred, fidelity.DENSITY_NEIGHBOURS),
        torch.bincount(train_labels, minlength=CLASSES),
    )


def measure(samples: Reading, reference: Reference) -> dict[str, float]:
    """METRICS of what the reference's evaluator reads in N samples, N equal to the number of test images."""
    centred = samples.features - reference.centre
    shares = fidelity.precision_recall(reference.near, balls(centred, fidelity.PRECISION_NEIGHBOURS))
    return {
        "frechet": frechet_distance(samples.features, reference.features),
        "frechet_limit": frechet_limit(samples.features, reference.features),
        "kernel_distance": kernel_distance(samples.features, reference.features),
        **shares._asdict(),
        **fidelity.density_coverage(reference.wide, centred)._asdict(),
        "mnist_score": mnist_score(samples.probabilities),
        "class_kl": class_divergence(torch.bincount(samples.classes, minlength=CLASSES), reference.class_counts),
    }
