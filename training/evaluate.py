"""How good are the samples: a Fréchet distance, with its floor, on the features of a small classifier of digits.

The classifier is trained here, on the training images, and sees 8-bit images only, as samples are published. It
measures a finished model; no checkpoint is ever chosen by it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from service.gan import checkpoint
from service.gan.networks import Generator
from training import data, figures
from training.frechet import frechet_distance
from training.runs import Run, check_data
from training.samples import fixed_latents, sample
from training.steps import TrainState, published_generator

SAMPLES = 10_000
CLASSES = 10
EPOCHS = 3
BATCH_SIZE = 128
LEARNING_RATE = 1e-3
SAMPLE_SEED, FLOOR_SEED, CLASSIFIER_SEED = 1, 2, 3


class Evaluation(NamedTuple):
    """What was measured at one step of one run."""

    step: int
    samples: int
    frechet: float
    """Squared Fréchet distance of the samples to the test images."""
    frechet_floor: float
    """The same of as many random training images: what a perfect model would score."""
    frechet_ratio: float
    class_kl: float
    """KL divergence, in nats, of the samples' predicted classes from the training labels."""
    class_histogram: list[int]
    classifier_accuracy: float
    """Of the classifier itself on the test images."""


class Classifier(nn.Module):
    """Images (B, 1, 32, 32) in [-1, 1] to class logits (B, 10), through features (B, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 8 * 8, 128),
            nn.ReLU(),
        )
        self.linear = nn.Linear(128, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits (B, 10)."""
        logits: Tensor = self.linear(self.layers(images))
        return logits


def measure(run: Run, current: TrainState, folder: Path, *, download: bool = True) -> Evaluation:
    """Measure the averaged generator of `run` as it is in `current`, with the data set in `folder`.

    What was measured is kept in the run's `evaluation.json`, and measured anew only for another step. Raises DataError,
    and RunError when the data are not those of the run.
    """
    path = run.folder / "evaluation.json"
    if path.exists() and (known := Evaluation(**json.loads(path.read_text()))).step == current.step:
        return known
    train, test = (data.load(folder, split, download=download) for split in ("train", "test"))
    check_data(run, train.sha256)
    torch.set_num_threads(run.config.threads)
    evaluation = evaluate(
        published_generator(current), current.step, train, test, run.folder / "classifier.safetensors"
    )
    checkpoint.write_atomic(path, (json.dumps(evaluation._asdict(), indent=2) + "\n").encode())
    return evaluation


def evaluate(
    generator: Generator, step: int, train: data.Digits, test: data.Digits, classifier_path: Path
) -> Evaluation:
    """Measure `generator`, as it was after `step` steps, against the images of `test`; deterministic on one machine.

    The classifier is read from `classifier_path`; when it is not there, it is trained on `train` and saved there.
    """
    train_images, test_images = (figures.to_uint8(data.resize(split.images)) for split in (train, test))
    classifier = _classifier(classifier_path, train_images, train.labels)
    count = min(SAMPLES, len(test_images), len(train_images))
    some_train = train_images[torch.randperm(len(train_images), generator=_seeded(FLOOR_SEED))[:count]]
    test_features, test_classes = classify(classifier, test_images)
    train_features, _ = classify(classifier, some_train)
    sample_features, sample_classes = classify(classifier, sample(generator, fixed_latents(count, SAMPLE_SEED)))
    distance = frechet_distance(sample_features, test_features)
    floor = frechet_distance(train_features, test_features)
    histogram = torch.bincount(sample_classes, minlength=CLASSES)
    return Evaluation(
        step=step,
        samples=count,
        frechet=distance,
        frechet_floor=floor,
        frechet_ratio=distance / floor,
        class_kl=class_divergence(histogram, torch.bincount(train.labels, minlength=CLASSES)),
        class_histogram=histogram.tolist(),
        classifier_accuracy=float((test_classes == test.labels).double().mean()),
    )


def class_divergence(counts: Tensor, reference: Tensor) -> float:
    """KL(p ‖ q) in nats of two histograms (C,), 0·log 0 = 0.

    One is added to each count of the reference, so that a class it happens to lack does not make this infinite.
    """
    p, q = counts.double() / counts.sum(), (reference.double() + 1) / (reference.sum() + len(reference))
    return float(torch.xlogy(p, p / q).sum())


@torch.inference_mode()
def classify(classifier: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, 128) float64 and predicted classes (N,) of images (N, 1, 32, 32) uint8."""
    features, classes = [], []
    for batch in torch.split(images, 500):
        penultimate = classifier.layers(_to_float(batch))
        features.append(penultimate.double())
        classes.append(classifier.linear(penultimate).argmax(1))
    return torch.cat(features), torch.cat(classes)


def _classifier(path: Path, images: Tensor, labels: Tensor) -> Classifier:
    """The classifier saved at `path`, or else one trained on images (N, 1, 32, 32) uint8 and saved there."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(CLASSIFIER_SEED)
        classifier = Classifier()
    if path.exists():
        checkpoint.load_module(path, classifier)
        return classifier.eval()
    optimizer = torch.optim.Adam(classifier.parameters(), lr=LEARNING_RATE)
    for epoch in range(EPOCHS):
        for batch in torch.split(data.shuffle(len(images), CLASSIFIER_SEED, epoch), BATCH_SIZE):
            loss = cross_entropy(classifier(_to_float(images[batch])), labels[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    checkpoint.save(path, classifier.state_dict())
    return classifier.eval()


def _to_float(images: Tensor) -> Tensor:
    """8-bit images back in [-1, 1]: x/127.5 - 1."""
    return images.to(torch.float32) / 127.5 - 1


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
