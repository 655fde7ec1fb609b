"""How good is a generator, seen from training images that it did not learn from: what choices among runs are made by.

The classifier behind it is no evaluator, and the test images are never read here.
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
from training.evaluation.classifier import CLASSES, Classifier, fold, read
from training.evaluation.fitting import FitSettings, fit
from training.evaluation.frechet import frechet_distance
from training.runs.figures import fixed_latents, sample

HELD_OUT = 10_000
SAMPLES = 10_000
SEED = 2000
FIT = FitSettings(epochs=4, shift=1, rotation=5, bfloat16=True)


class Quality(NamedTuple):
    """What a generator's samples are worth."""

    frechet: float
    """Fréchet distance of the samples to the held-out images."""
    ratio: float
    """The same over the floor, that of as many images that were learnt from."""
    class_kl: float
    """KL divergence, in nats, of the samples' predicted classes from the training labels."""


class Validator:
    """A small classifier, and what it sees in the images that are held out."""

    def __init__(self, digits: data.Digits, path: Path | None = None, held_out: int = HELD_OUT) -> None:
        """Train the classifier on the images before the last `held_out`, or read it from `path`, where it is kept."""
        images = data.to_uint8(data.resize(digits.images))
        learned = len(images) - held_out
        self._classifier = _classifier(path, images[:learned], digits.labels[:learned])
        self._count = min(SAMPLES, learned, held_out)
        self._labels = torch.bincount(digits.labels, minlength=CLASSES)
        self._features = read(self._classifier, images[learned:]).features
        order = torch.randperm(learned, generator=torch.Generator().manual_seed(SEED))[: self._count]
        self.floor = frechet_distance(read(self._classifier, images[order]).features, self._features)
        self.accuracy = float(
            (read(self._classifier, images[learned:]).classes == digits.labels[learned:]).double().mean()
        )

    def measure(self, generator: Generator) -> Quality:
        """Measure as many samples as there are held-out images, always of the same latents."""
        return self.judge(sample(generator, fixed_latents(self._count, SEED)))

    def features(self, images: Tensor) -> Tensor:
        """What the classifier sees in images (N, 1, 32, 32) uint8, (N, 96)."""
        return read(self._classifier, images).features

    def judge(self, images: Tensor) -> Quality:
        """Measure images (N, 1, 32, 32) uint8."""
        seen = read(self._classifier, images)
        distance = frechet_distance(seen.features, self._features)
        histogram = torch.bincount(seen.classes, minlength=CLASSES)
        return Quality(distance, distance / self.floor, class_divergence(histogram, self._labels))


def network() -> Classifier:
    """Convolutions of 4×4 that step by two, with batch normalisation; 96 features."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 32), (32, 64), (64, 96)):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1)]
    layers += [nn.Flatten(), nn.Linear(96 * 4 * 4, 96, bias=False), nn.BatchNorm1d(96), nn.LeakyReLU(0.1)]
    return Classifier(nn.Sequential(*layers), 96)


def _classifier(path: Path | None, images: Tensor, labels: Tensor) -> Classifier:
    if path is not None and path.exists():
        classifier = fold(network())
        checkpoint.load_module(path, classifier)
        # The memory layout of a classifier that was just fitted, so that its numbers are the same.
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
