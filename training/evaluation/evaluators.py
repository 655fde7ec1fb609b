"""Evaluators: classifiers that only measure samples. They are published beside the checkpoint that they measure.

Their input is 8-bit images, the form in which samples are published. A sixth of the training images is held out from
them. These images select the settings, and show how much better the evaluators fit the images that they learned from.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from service.errors import CheckpointError
from service.gan import checkpoint
from training import data
from training.evaluation.architectures import ARCHITECTURES
from training.evaluation.classifier import Classifier, fold, predict
from training.evaluation.fitting import FitSettings, fit

INDEX_FILE = "evaluators.json"
HELD_OUT, SPLIT_SEED = 1 / 6, 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluatorSettings:
    """Settings for the training of the evaluators."""

    fit: FitSettings = field(
        default_factory=lambda: FitSettings(epochs=10, rotation=10, shift=2, scale=0.1, bfloat16=True)
    )
    seed: int = 1000
    """Seed of the first evaluator. Each further evaluator has the next number."""


class Evaluator(NamedTuple):
    """A classifier with its training settings and its accuracy."""

    name: str
    """Name of its architecture."""
    classifier: Classifier
    seed: int
    epochs: int
    validation_accuracy: float
    """Accuracy on the held-out training images."""
    test_accuracy: float
    sha256: str = ""
    """Digest of its file; empty before it is saved."""


# The fields of an evaluator in the index file.
PUBLISHED = ("sha256", "seed", "epochs", "validation_accuracy", "test_accuracy")


def split(count: int) -> tuple[Tensor, Tensor]:
    """Divide `count` training images: indices of those that evaluators learn from, and of those held out."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))
    held_out = round(count * HELD_OUT)
    return order[held_out:], order[:held_out]


def train(
    name: str, train_split: data.Digits, test_split: data.Digits, settings: EvaluatorSettings | None = None
) -> Evaluator:
    """Train a new evaluator of architecture `name`. The result depends on the data and the settings alone."""
    settings = settings or EvaluatorSettings()
    seed = settings.seed + list(ARCHITECTURES).index(name)
    classifier = _build(name, seed)
    images, test_images = (data.to_uint8(data.resize(part.images)) for part in (train_split, test_split))
    learned, held_out = split(len(images))
    fit(classifier, images[learned], train_split.labels[learned], settings.fit, seed)
    fold(classifier)
    return Evaluator(
        name,
        classifier,
        seed,
        settings.fit.epochs,
        _accuracy(classifier, images[held_out], train_split.labels[held_out]),
        _accuracy(classifier, test_images, test_split.labels),
    )


def publish(folder: Path, digits: Path, settings: EvaluatorSettings | None = None, *, download: bool = True) -> None:
    """Train an evaluator of each architecture on the data set in `digits`, and save them to `folder`.

    Raises DataError if the data are missing or damaged.
    """
    train_split, test_split = (data.load(digits, part, download=download) for part in ("train", "test"))
    evaluators = {}
    for name in ARCHITECTURES:
        evaluators[name] = train(name, train_split, test_split, settings)
        logger.info(
            "%s: accuracy %.2f %% on the held-out images, %.2f %% on the test images",
            name,
            100 * evaluators[name].validation_accuracy,
            100 * evaluators[name].test_accuracy,
        )
    save(folder, evaluators, train_split.sha256)


def save(folder: Path, evaluators: Mapping[str, Evaluator], data_sha256: str) -> None:
    """Write each evaluator to a file, and an index of all. `data_sha256` is the digest of their training images."""
    folder.mkdir(parents=True, exist_ok=True)
    entries: dict[str, dict[str, Any]] = {}
    for name, evaluator in evaluators.items():
        path = _file(folder, name)
        checkpoint.save(path, evaluator.classifier.state_dict())
        fields = evaluator._replace(sha256=checkpoint.sha256(path))._asdict()
        entries[name] = {key: fields[key] for key in PUBLISHED}
    content = json.dumps({"data_sha256": data_sha256, "evaluators": entries}, indent=2, allow_nan=False) + "\n"
    checkpoint.write_atomic(folder / INDEX_FILE, content.encode())


def load(folder: Path) -> dict[str, Evaluator]:
    """Read the evaluators that `save` wrote, in eval mode, by name.

    Raises CheckpointError, with the cure, if the folder is missing or a file is damaged.
    """
    path = folder / INDEX_FILE
    try:
        entries = json.loads(path.read_bytes())["evaluators"].items()
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read: {error.strerror or error}; train evaluators with: "
            f"python -m training evaluators --to {folder}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not an index of evaluators: {error!r}; {_cure(folder)}") from error
    evaluators = {}
    for name, entry in entries:
        if name not in ARCHITECTURES:
            raise CheckpointError(f"{path}: no architecture {name!r}; known are {', '.join(ARCHITECTURES)}")
        try:
            known = {key: entry[key] for key in PUBLISHED}
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: {name} lacks {error}; {_cure(folder)}") from error
        classifier = fold(ARCHITECTURES[name]())
        checkpoint.load_module(_file(folder, name), classifier, sha256=known["sha256"])
        evaluators[name] = Evaluator(name, classifier.to(memory_format=torch.channels_last), **known)
    if not evaluators:
        raise CheckpointError(f"{path}: names no evaluators; {_cure(folder)}")
    return evaluators


def _build(name: str, seed: int) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES[name]()


def _accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> float:
    return float((predict(classifier, images).classes == labels).double().mean())


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _cure(folder: Path) -> str:
    return f"replace the folder, or train evaluators with: python -m training evaluators --to {folder}"
