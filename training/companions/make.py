"""Companions of a published generator: trained, measured and written into its folder."""

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

# What is measured here is called so among the manifest's metrics.
MEASURED = "companions"
DATA = "data_sha256"

logger = logging.getLogger(__name__)


class Budget(NamedTuple):
    """How much is spent. The defaults take about ten minutes of one core, half of them for the classifier."""

    classifier_epochs: int = 10
    latents: int = 600_000
    latent_epochs: int = 8
    checks: int = 50_000
    """Latents for measurements and thresholds."""
    critic_epochs: int = 8
    samples: int = 50_000
    """Of the generator, for the critic to learn from."""
    candidates: int = 40_000
    """Further ones to measure rejection by, and half as many to calibrate it."""
    held_out: int = 10_000
    """The last of the training images. No weights learn from them: they say when a critic has learnt enough, set its
    calibration, and choose how much is rejected."""


def make(
    folder: Path,
    source: Path,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    retrain: bool = False,
    download: bool = True,
) -> Manifest:
    """Write the companions of the generator in `folder` beside it; returns the new manifest.

    The classifier of images depends on no generator: one that lies there is kept, unless `retrain` says otherwise.
    Deterministic on one machine. Raises CheckpointError for a folder that cannot be loaded, whose generator learnt from
    images that are held out here, or whose classifier learnt from other data; and DataError.
    """
    budget = budget or Budget()
    generator, _, manifest = checkpoint.load(folder)
    owner = manifest.files[GENERATOR_FILE]
    digits = data.load(source, download=download)
    images = from_uint8(to_uint8(data.resize(digits.images)))
    learnt = len(images) - min(budget.held_out, len(images) // 6)

    _check_held_out(manifest, len(images) - learnt)
    classifier = _kept(folder, digits.sha256) if not retrain else None
    if classifier is None:
        classifier = classifiers.train(
            images[:learnt], digits.labels[:learnt], epochs=budget.classifier_epochs, seed=seed
        )
    accuracy = classifiers.accuracy(classifier, images[learnt:], digits.labels[learnt:])
    logger.info("classifier: %.2f %% of the held-out images", 100 * accuracy)

    labelled = latents.label(generator, classifier, budget.latents, seed + 1)
    latent_classifier = latents.train(labelled, seed=seed, epochs=budget.latent_epochs)
    checks = latents.label(generator, classifier, budget.checks, seed + 2)
    agreement = latents.agreement(latent_classifier, checks)
    thresholds = latents.thresholds(latent_classifier, checks)
    logger.info(
        "latent classifier: agrees on %.2f %%, thresholds %s", 100 * agreement, [round(t, 3) for t in thresholds]
    )

    validator = Validator(digits, held_out=len(images) - learnt)
    best = _rejection(generator, classifier, validator, to_uint8(images), digits.labels[:learnt], budget, seed)

    # What was measured with other companions is not true of these.
    metrics = {name: value for name, value in manifest.metrics.items() if name not in (EVALUATION, MEASURED)}
    (folder / CARD_FILE).unlink(missing_ok=True)
    # A crash in between leaves a folder without companions, which is whole.
    files = {name: digest for name, digest in manifest.files.items() if name not in FILES}
    checkpoint.write_manifest(folder, manifest._replace(files=files, metrics=metrics))
    checkpoint.save(folder / CLASSIFIER_FILE, classifier.state_dict(), {DATA: digits.sha256})
    mine = companions.metadata(owner, thresholds=thresholds)
    checkpoint.save(folder / LATENT_CLASSIFIER_FILE, latent_classifier.state_dict(), mine)
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
            f"the generator held out {own} images and learnt from the rest, but companions are judged on the last "
            f"{count}; train one with --held-out {count}"
        )


def _kept(folder: Path, data_sha256: str) -> Classifier | None:
    """The classifier that lies in `folder`, where there is one."""
    path, classifier = folder / CLASSIFIER_FILE, Classifier()
    if not path.exists():
        return None
    checkpoint.load_module(path, classifier)
    own = checkpoint.read(path)[1].get(DATA)
    if own != data_sha256:
        raise CheckpointError(
            f"{path} learnt from data with sha256 {own}, and these have {data_sha256}; take those, or train it anew "
            "with --retrain-classifier"
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
    """The critic of `generator`, and what the samples that it keeps are worth.

    `labels` are those of the images to learn from, behind which the held-out ones lie, all of 8 bits. It is judged
    by the validator, because it looks through the classifier, which may also have taken part in the generator's
    training.
    """
    learnt, noise = len(labels), torch.Generator().manual_seed(seed + 3)
    counts = (budget.samples, budget.candidates // 2, budget.candidates)
    fakes = [rejection.samples(generator, count, noise) for count in counts]
    features, held_out = (validator.features(part) for part in (fakes[-1], images[learnt:]))
    real, held, fake, known, candidates = (
        rejection.look(classifier, part) for part in (images[:learnt], images[learnt:], *fakes)
    )
    critic = rejection.train(real, fake, held, known, epochs=budget.critic_epochs, seed=seed + 4)
    shares = torch.bincount(labels, minlength=DIGITS).double() / learnt
    return rejection.calibrate(critic, known, candidates, shares, features, held_out, seed + 5)
