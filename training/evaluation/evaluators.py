"""Evaluators: classifiers trained for measuring alone, published beside the checkpoint that they measure.

They see 8-bit images only, as samples are published. A part of the training images is held out from them: on it choices
about them are made, and it shows how much better than unseen images they know those that they learned from.
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
from training.evaluation.classifier import Classifier, fold, read
from training.evaluation.fitting import FitSettings, fit

INDEX_FILE = "evaluators.json"
HELD_OUT, SPLIT_SEED = 1 / 6, 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluatorSettings:
    """How the evaluators are trained."""

    fit: FitSettings = field(
        default_factory=lambda: FitSettings(epochs=10, rotation=10, shift=2, scale=0.1, bfloat16=True)
    )
    seed: int = 1000
    """Of the first evaluator; the next ones take the numbers after it."""


class Evaluator(NamedTuple):
    """One classifier with what is known of it."""

    name: str
    """Of its architecture."""
    classifier: Classifier
    seed: int
    epochs: int
    validation_accuracy: float
    """On the held-out training images."""
    test_accuracy: float
    sha256: str = ""
    """Of its file; empty before it is saved."""


# What the index says of each.
PUBLISHED = ("sha256", "seed", "epochs", "validation_accuracy", "test_accuracy")


def split(count: int) -> tuple[Tensor, Tensor]:
    """Indices of those of `count` training images that evaluators learn from, and of those held out from them."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))
    held_out = round(count * HELD_OUT)
    return order[held_out:], order[:held_out]


def train(
    name: str, train_split: data.Digits, test_split: data.Digits, settings: EvaluatorSettings | None = None
) -> Evaluator:
    """A new evaluator of architecture `name`. What it becomes depends on the data and the settings alone."""
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
    """Train an evaluator of every architecture on the data set in `digits`, and save them to `folder`.

    Raises DataError.
    """
    train_split, test_split = (data.load(digits, part, download=download) for part in ("train", "test"))
    evaluators = {}
    for name in ARCHITECTURES:
        evaluators[name] = train(name, train_split, test_split, settings)
        logger.info(
            "%s: %.2f %% of the held-out images, %.2f %% of the test images",
            name,
            100 * evaluators[name].validation_accuracy,
            100 * evaluators[name].test_accuracy,
        )
    save(folder, evaluators, train_split.sha256)


def save(folder: Path, evaluators: Mapping[str, Evaluator], data_sha256: str) -> None:
    """Write the evaluators, a file each, and an index of them; `data_sha256` is that of their training images."""
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
    """The evaluators that `save` wrote, in eval mode, by name.

    Raises CheckpointError, saying how to get them, when the folder is missing, and when anything in it is damaged.
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
            raise CheckpointError(f"{path}: no architecture {name!r}, known are {', '.join(ARCHITECTURES)}")
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
    return float((read(classifier, images).classes == labels).double().mean())


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def _cure(folder: Path) -> str:
    return f"copy the folder anew, or train evaluators with: python -m training evaluators --to {folder}"
