"""What a generator's companions know: classifiers of its images and latents, and how likely its images are real.

They are made offline by `python -m training companions` and live in the checkpoint folder beside the two networks:
`classifier.safetensors`, `latent_classifier.safetensors` and `rejection.safetensors`. The last two belong to one
generator, whose sha256 stands in their metadata; a folder without companions is whole, and only lacks what they allow.
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
    """Everything that chooses latents and names digits."""

    classifier: Classifier
    latent_classifier: LatentClassifier
    thresholds: tuple[float, ...]
    """For each digit, the probability from which on a latent counts as one of its own."""
    critic: Critic
    """What candidates of rejection sampling are kept by."""

    def judge(self, images: Tensor) -> Tensor:
        """The log of the probability (B,) of keeping each of `images` (B, 1, 32, 32) in [-1, 1]."""
        return self.critic.judge(self.classifier, images)


def load(folder: Path, manifest: Manifest) -> Companions | None:
    """The companions of a checkpoint folder, in eval mode on the CPU; None where its manifest names none of them.

    Raises CheckpointError when the manifest names some and not all, when a file is damaged, or when it was made for
    another generator than the folder's.
    """
    named = [name for name in FILES if name in manifest.files]
    if not named:
        return None
    if missing := [name for name in FILES if name not in named]:
        raise CheckpointError(
            f"{folder / MANIFEST_FILE}: files names {', '.join(named)} and not {', '.join(missing)}; "
            "make them anew with python -m training companions"
        )
    classifier, latent_classifier, critic = Classifier(), LatentClassifier(), Critic()
    for name, module in zip(FILES, (classifier, latent_classifier, critic), strict=True):
        checkpoint.load_module(folder / name, module, sha256=manifest.files[name])
    _metadata(folder / REJECTION_FILE, manifest)
    path = folder / LATENT_CLASSIFIER_FILE
    thresholds = _numbers(path, _metadata(path, manifest).get("thresholds"), DIGITS)
    return Companions(classifier.eval(), latent_classifier.eval(), thresholds, critic.eval())


def metadata(generator_sha256: str, **numbers: list[float]) -> dict[str, str]:
    """The metadata of a companion, as JSON: whose it is, and its numbers."""
    # One entry: the order of several would be another one in every file.
    return {METADATA: json.dumps({"generator": generator_sha256, **numbers})}


def _metadata(path: Path, manifest: Manifest) -> dict[str, Any]:
    """What `metadata` wrote. Raises CheckpointError when it is of another generator."""
    _, found = checkpoint.read(path)
    try:
        content: Any = json.loads(found.get(METADATA, ""))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: its metadata are {found}, expected {METADATA} as a JSON object")
    own = manifest.files[GENERATOR_FILE]
    if content.get("generator") != own:
        raise CheckpointError(
            f"{path}: made for the generator {content.get('generator')}, and this one is {own}; "
            "make it anew with python -m training companions"
        )
    return content


def _numbers(path: Path, values: Any, count: int) -> tuple[float, ...]:
    if not (
        isinstance(values, list)
        and len(values) == count
        and all(type(value) is float and math.isfinite(value) for value in values)
    ):
        raise CheckpointError(f"{path}: its thresholds are {values}, expected {count} finite numbers")
    return tuple(values)
