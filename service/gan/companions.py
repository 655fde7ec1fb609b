"""The companions of a generator: classifiers of its images and of its latents, and the critic of rejection sampling.

`python -m training companions` trains them offline. The checkpoint folder has them as `classifier.safetensors`,
`latent_classifier.safetensors` and `rejection.safetensors`. The last two belong to one generator, and their metadata
contains its sha256. A checkpoint without companions is valid, but requests that need them are refused.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ..errors import CheckpointError
from . import checkpoint
from .checkpoint import GENERATOR_FILE, MANIFEST_FILE, Manifest
from .classifier import DIGITS, Classifier, LatentClassifier
from .critic import Critic

CLASSIFIER_FILE = "classifier.safetensors"
LATENT_CLASSIFIER_FILE = "latent_classifier.safetensors"
REJECTION_FILE = "rejection.safetensors"
METADATA = "companion"
FILES = (CLASSIFIER_FILE, LATENT_CLASSIFIER_FILE, REJECTION_FILE)


class Companions(NamedTuple):
    """The networks that choose latents and classify digits."""

    classifier: Classifier
    latent_classifier: LatentClassifier
    thresholds: tuple[float, ...]
    """For each digit, the minimum probability with which a latent passes the screen."""
    critic: Critic
    """Estimates the probability with which rejection sampling keeps an image."""

    def judge(self, images: Tensor) -> Tensor:
        """Log of the probability (B,) of keeping each of `images` (B, 1, 32, 32), in [-1, 1]."""
        return self.critic.judge(self.classifier, images)


def load(folder: Path, manifest: Manifest) -> Companions | None:
    """The companions of a checkpoint folder, in eval mode on the CPU; None if its manifest names none of them.

    Raises:
        CheckpointError: the manifest names only some of them, a file is damaged, or it belongs to another generator.
    """
    named = [name for name in FILES if name in manifest.files]
    if not named:
        return None
    if missing := [name for name in FILES if name not in named]:
        raise CheckpointError(
            f"{folder / MANIFEST_FILE}: files names {', '.join(named)} but not {', '.join(missing)}; "
            "make all companions again with python -m training companions"
        )
    classifier, latent_classifier, critic = Classifier(), LatentClassifier(), Critic()
    for name, module in zip(FILES, (classifier, latent_classifier, critic), strict=True):
        checkpoint.load_module(folder / name, module, sha256=manifest.files[name])
    _metadata(folder / REJECTION_FILE, manifest)
    path = folder / LATENT_CLASSIFIER_FILE
    thresholds = _numbers(path, _metadata(path, manifest).get("thresholds"), DIGITS)
    return Companions(classifier.eval(), latent_classifier.eval(), thresholds, critic.eval())


def metadata(generator_sha256: str, **numbers: list[float]) -> dict[str, str]:
    """The metadata of a companion as JSON: the sha256 of its generator, and its numbers."""
    # One entry only, because the order of several entries varies from file to file.
    return {METADATA: json.dumps({"generator": generator_sha256, **numbers})}


def _metadata(path: Path, manifest: Manifest) -> dict[str, Any]:
    """The content that `metadata` wrote. Raises CheckpointError if the companion belongs to another generator."""
    _, found = checkpoint.read(path)
    try:
        content: Any = json.loads(found.get(METADATA, ""))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: metadata is {found}, expected {METADATA} as a JSON object")
    own = manifest.files[GENERATOR_FILE]
    if content.get("generator") != own:
        raise CheckpointError(
            f"{path}: made for the generator {content.get('generator')}, but the checkpoint has {own}; "
            "make it again with python -m training companions"
        )
    return content


def _numbers(path: Path, values: Any, count: int) -> tuple[float, ...]:
    if not (
        isinstance(values, list)
        and len(values) == count
        and all(type(value) is float and math.isfinite(value) for value in values)
    ):
        raise CheckpointError(f"{path}: thresholds are {values}, expected {count} finite numbers")
    return tuple(values)
