"""An evaluation of a checkpoint folder, written into it or compared with what stands there."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from service.errors import LatentserveError
from service.gan import checkpoint, companions
from training import data
from training.evaluation import card, evaluators
from training.evaluation.evaluation import Evaluation, EvaluationSettings
from training.evaluation.protocol import evaluate, to_images
from training.evaluation.samplers import digit_samplers, samplers
from training.evaluation.tables import differences, tables
from training.runs import figures
from training.runs.publish import CARD_FILE, EVALUATION

FAILURES_FILE = "samples/failures.png"
COLUMNS = 10
NAMED = 10


class NotReproduced(LatentserveError):
    """What was measured is not what the manifest says."""


def evaluate_folder(
    folder: Path, judges: Path, digits: Path, settings: EvaluationSettings, *, download: bool = True
) -> tuple[Evaluation, Tensor]:
    """Measure the checkpoint in `folder` by the evaluators in `judges`, on the data set in `digits`.

    Returns what was found, and images (n, 1, 32, 32) uint8 of failures. Raises CheckpointError, DataError, and
    ControlError.
    """
    generator, _, manifest = checkpoint.load(folder)
    classifiers = evaluators.load(judges)
    train, test = (data.load(digits, split, download=download) for split in ("train", "test"))
    if train.sha256 != manifest.data_sha256:
        raise data.DataError(
            f"{folder} learned from images with sha256 {manifest.data_sha256}, but those in {digits} have "
            f"{train.sha256}; name the folder of the right ones with --data"
        )
    found = companions.load(folder, manifest)
    return evaluate(
        samplers(generator, found),
        classifiers,
        to_images(train, test),
        settings,
        digit_samplers(generator, found),
    )


def write(folder: Path, evaluation: Evaluation, failures: Tensor) -> None:
    """Write `evaluation` into the folder's manifest, print the model card, and picture the failures."""
    manifest = checkpoint.read_manifest(folder)
    manifest = manifest._replace(metrics=manifest.metrics | {EVALUATION: evaluation.to_json()})
    picture = folder / FAILURES_FILE
    picture.parent.mkdir(exist_ok=True)
    checkpoint.write_atomic(picture, figures.encode_png(figures.grid(failures, COLUMNS)))
    checkpoint.write_manifest(folder, manifest)
    checkpoint.write_atomic(folder / CARD_FILE, card.write(manifest, evaluation).encode())


def compare(folder: Path, evaluation: Evaluation) -> str:
    """One line that says that the numbers of the folder's card came out again, or that there are none yet.

    Says too where the numbers of threads differ. Raises NotReproduced, naming the first numbers that did not, and
    CheckpointError when they cannot be read.
    """
    published = checkpoint.read_manifest(folder).metrics.get(EVALUATION)
    if published is None:
        return f"{folder} has no evaluation yet; write this one with: python -m training evaluate {folder} --write"
    expected = Evaluation.from_json(published)
    threads = ""
    if expected.threads not in (None, evaluation.threads):
        threads = (
            f" The card was measured with --threads {expected.threads}, this with {evaluation.threads}: "
            "numbers hold for one count."
        )
    unequal = differences(tables(evaluation), tables(expected))
    if unequal:
        some = "; ".join(unequal[:NAMED]) + ("; ..." if len(unequal) > NAMED else "")
        raise NotReproduced(
            f"the card in {folder} is not reproduced: {len(unequal)} numbers are others; {some}.{threads}"
        )
    return f"the card in {folder} is reproduced: every number is the same, give or take one in its last digit.{threads}"
