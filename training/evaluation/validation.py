"""Validation: the quality of a generator, measured on held-out training images. Choices between runs use it.

Its classifier is not an evaluator, and this module never reads the test images.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from service.gan import checkpoint
from service.gan.networks import Generator
from training import data
from training.evaluation.class_scores import class_divergence
from training.evaluation.classifier import CLASSES, Classifier, fold, predict
from training.evaluation.fitting import FitSettings, fit
from training.evaluation.frechet import frechet_distance
from training.runs.figures import fixed_latents, sample

HELD_OUT = 10_000
SAMPLES = 10_000
SEED = 2000
FIT = FitSettings(epochs=4, shift=1, rotation=5, bfloat16=True)


class Quality(NamedTuple):
    """The quality of a set of samples."""

    frechet: float
    """Squared Fréchet distance of the samples to the held-out images."""
    ratio: float
    """That distance divided by the floor: the distance of equally many other training images."""
    class_kl: float
    """KL divergence, in nats, of the predicted classes from the training labels."""


class Validator:
    """A small classifier, and its features of the held-out images."""

    def __init__(self, digits: data.Digits, path: Path | None = None, held_out: int = HELD_OUT) -> None:
        """Train the classifier on all images except the last `held_out`.

        If `path` is given, the classifier is read from it or, if there is no such file, written to it. Raises
        CheckpointError if the file is damaged.
        """
        images = data.to_uint8(data.resize(digits.images))
        learned = len(images) - held_out
        self._classifier = _classifier(path, images[:learned], digits.labels[:learned])
        self._count = min(SAMPLES, learned, held_out)
        self._labels = torch.bincount(digits.labels, minlength=CLASSES)
        held_out_images = predict(self._classifier, images[learned:])
        self._features = held_out_images.features
        order = torch.randperm(learned, generator=torch.Generator().manual_seed(SEED))[: self._count]
        self.floor = frechet_distance(predict(self._classifier, images[order]).features, self._features)
        self.accuracy = float((held_out_images.classes == digits.labels[learned:]).double().mean())

    def measure(self, generator: Generator) -> Quality:
        """Measure samples of `generator`, as many as held-out images, with the same latents in every call."""
        return self.measure_images(sample(generator, fixed_latents(self._count, SEED)))

    def features(self, images: Tensor) -> Tensor:
        """The classifier's features (N, 96) of images (N, 1, 32, 32) uint8."""
        return predict(self._classifier, images).features

    def measure_images(self, images: Tensor) -> Quality:
        """Measure images (N, 1, 32, 32) uint8, N at least 2."""
        predictions = predict(self._classifier, images)
        distance = frechet_distance(predictions.features, self._features)
        histogram = torch.bincount(predictions.classes, minlength=CLASSES)
        return Quality(distance, distance / self.floor, class_divergence(histogram, self._labels))


def network() -> Classifier:
    """The untrained classifier: 4×4 convolutions of stride 2 with batch normalisation; 96 features."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 32), (32, 64), (64, 96)):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1)]
    layers += [nn.Flatten(), nn.Linear(96 * 4 * 4, 96, bias=False), nn.BatchNorm1d(96), nn.LeakyReLU(0.1)]
    return Classifier(nn.Sequential(*layers), 96)


def _classifier(path: Path | None, images: Tensor, labels: Tensor) -> Classifier:
    if path is not None and path.exists():
        classifier = fold(network())
        checkpoint.load_module(path, classifier)
        # A classifier that was just trained has this memory layout. With it, rounding is the same.
        return classifier.to(memory_format=torch.channels_last)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        classifier = network()
    fit(classifier, images, labels, FIT, SEED)
    fold(classifier)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(path, classifier.state_dict())
    return classifier
