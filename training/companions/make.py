"""Train the companions of a published generator, measure them, and write them to its folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from service.errors import CheckpointError
from service.gan import checkpoint, companions
from service.gan.checkpoint import GENERATOR_FILE, Manifest
from service.gan.classifier import DIGITS, Classifier
from service.gan.companions import CLASSIFIER_FILE, FILES, LATENT_CLASSIFIER_FILE, REJECTION_FILE
from service.gan.networks import Generator
from training import data
from training.companions import classifier as classifiers
from training.companions import latents, rejection
from training.companions.rejection import Rejection
from training.data import from_uint8, to_uint8
from training.evaluation.validation import Validator
from training.runs.publish import CARD_FILE, EVALUATION

# The key of these measurements in the manifest's metrics.
MEASURED = "companions"
DATA = "data_sha256"

logger = logging.getLogger(__name__)


class Budget(NamedTuple):
    """Numbers of epochs and samples. The defaults take about ten minutes on one core, half for the image classifier."""

    classifier_epochs: int = 10
    latents: int = 600_000
    latent_epochs: int = 8
    checks: int = 50_000
    """Number of latents for the thresholds and for the measured agreement."""
    critic_epochs: int = 8
    samples: int = 50_000
    """Number of generated images that the critic learns from."""
    candidates: int = 40_000
    """Number of further generated images that measure rejection. Half this number again calibrates it."""
    held_out: int = 10_000
    """Number of training images, the last ones, that no weights learn from. They select the epoch of the critic,
    calibrate it, and choose the rejection rate."""


def make(
    folder: Path,
    source: Path,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    retrain: bool = False,
    download: bool = True,
) -> Manifest:
    """Train the companions of the generator in `folder`, write them there, and return the new manifest.

    `source` is the folder of MNIST. The image classifier depends on no generator, so an existing one is kept unless
    `retrain` is set. Deterministic on one machine.

    Raises CheckpointError if the folder cannot be loaded, if the generator learned from images that are held out here,
    or if the image classifier learned from other data. Raises DataError if the data are missing or damaged.
    """
    budget = budget or Budget()
    generator, _, manifest = checkpoint.load(folder)
    owner = manifest.files[GENERATOR_FILE]
    digits = data.load(source, download=download)
    images = from_uint8(to_uint8(data.resize(digits.images)))
    learned = len(images) - min(budget.held_out, len(images) // 6)

    _check_held_out(manifest, len(images) - learned)
    classifier = _existing_classifier(folder, digits.sha256) if not retrain else None
    if classifier is None:
        classifier = classifiers.train(
            images[:learned], digits.labels[:learned], epochs=budget.classifier_epochs, seed=seed
        )
    accuracy = classifiers.accuracy(classifier, images[learned:], digits.labels[learned:])
    logger.info("classifier: accuracy %.2f %% on the held-out images", 100 * accuracy)

    labelled = latents.label(generator, classifier, budget.latents, seed + 1)
    latent_classifier = latents.train(labelled, seed=seed, epochs=budget.latent_epochs)
    checks = latents.label(generator, classifier, budget.checks, seed + 2)
    agreement = latents.agreement(latent_classifier, checks)
    thresholds = latents.thresholds(latent_classifier, checks)
    logger.info(
        "latent classifier: agreement %.2f %%, thresholds %s", 100 * agreement, [round(t, 3) for t in thresholds]
    )

    validator = Validator(digits, held_out=len(images) - learned)
    best = _rejection(generator, classifier, validator, to_uint8(images), digits.labels[:learned], budget, seed)

    # Measurements of other companions do not hold for the new ones.
    metrics = {name: value for name, value in manifest.metrics.items() if name not in (EVALUATION, MEASURED)}
    (folder / CARD_FILE).unlink(missing_ok=True)
    # If the process ends before the last write, the folder is valid and has no companions.
    files = {name: digest for name, digest in manifest.files.items() if name not in FILES}
    checkpoint.write_manifest(folder, manifest._replace(files=files, metrics=metrics))
    checkpoint.save(folder / CLASSIFIER_FILE, classifier.state_dict(), {DATA: digits.sha256})
    metadata = companions.metadata(owner, thresholds=thresholds)
    checkpoint.save(folder / LATENT_CLASSIFIER_FILE, latent_classifier.state_dict(), metadata)
    checkpoint.save(folder / REJECTION_FILE, best.critic.state_dict(), companions.metadata(owner))
    measured: dict[str, Any] = {
        "classifier_accuracy": accuracy,
        "latent_agreement": agreement,
        "frechet_plain": best.plain,
        "frechet_rejection": best.frechet,
        "rejection_attempts": best.attempts,
    }
    manifest = manifest._replace(
        files=files | {name: checkpoint.sha256(folder / name) for name in FILES},
        metrics=metrics | {MEASURED: measured},
    )
    checkpoint.write_manifest(folder, manifest)
    companions.load(folder, manifest)
    return manifest


def _check_held_out(manifest: Manifest, count: int) -> None:
    own = manifest.recipe.get("held_out", count)
    if own < count:
        raise CheckpointError(
            f"the generator held out {own} images and learned from the rest, but companions are measured on the last "
            f"{count}; train a generator with --held-out {count}"
        )


def _existing_classifier(folder: Path, data_sha256: str) -> Classifier | None:
    """The image classifier in `folder`, or None. Raises CheckpointError if it learned from other data."""
    path, classifier = folder / CLASSIFIER_FILE, Classifier()
    if not path.exists():
        return None
    checkpoint.load_module(path, classifier)
    own = checkpoint.read(path)[1].get(DATA)
    if own != data_sha256:
        raise CheckpointError(
            f"{path} learned from data with sha256 {own}, but the data have {data_sha256}; name its data with --data, "
            "or train a new classifier with --retrain-classifier"
        )
    return classifier.eval()


def _rejection(
    generator: Generator,
    classifier: Classifier,
    validator: Validator,
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    seed: int,
) -> Rejection:
    """Train and calibrate a critic of `generator`, and measure the samples that it keeps.

    `images` (N, 1, 32, 32) uint8 are all training images, the held-out ones last; `labels` are those of the others.
    The validator measures, because the critic and possibly the generator's training depend on `classifier`.
    """
    learned, noise = len(labels), torch.Generator().manual_seed(seed + 3)
    counts = (budget.samples, budget.candidates // 2, budget.candidates)
    fakes = [rejection.samples(generator, count, noise) for count in counts]
    features, held_out = (validator.features(part) for part in (fakes[-1], images[learned:]))
    real, held, fake, known, candidates = (
        rejection.classify(classifier, part) for part in (images[:learned], images[learned:], *fakes)
    )
    critic = rejection.train(real, fake, held, known, epochs=budget.critic_epochs, seed=seed + 4)
    shares = torch.bincount(labels, minlength=DIGITS).double() / learned
    return rejection.calibrate(critic, known, candidates, shares, features, held_out, seed + 5)
