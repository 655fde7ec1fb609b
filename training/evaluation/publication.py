"""The evaluation of a checkpoint folder: measure it, then write the results to it or compare them with its card."""

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
# Maximum number of differences in an error message.
MAX_LISTED = 10


class NotReproduced(LatentserveError):
    """The measured numbers differ from those in the manifest."""


def evaluate_folder(
    folder: Path, judges: Path, digits: Path, settings: EvaluationSettings, *, download: bool = True
) -> tuple[Evaluation, Tensor]:
    """Measure the checkpoint in `folder` with the evaluators in `judges` and the data set in `digits`.

    Returns the evaluation and the failures (n, 1, 32, 32) uint8. Raises CheckpointError if a folder is missing or
    damaged, DataError if the data are missing, damaged or not those of the checkpoint, and ControlError if a metric
    does not detect a control.
    """
    generator, _, manifest = checkpoint.load(folder)
    classifiers = evaluators.load(judges)
    train, test = (data.load(digits, split, download=download) for split in ("train", "test"))
    if train.sha256 != manifest.data_sha256:
        raise data.DataError(
            f"{folder} learned from images with sha256 {manifest.data_sha256}, but the images in {digits} have "
            f"{train.sha256}; name the folder of the former with --data"
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
    """Write `evaluation` to the manifest in `folder`, and write the model card and the picture of `failures`.

    `failures` are images (n, 1, 32, 32) uint8. Raises CheckpointError if the manifest cannot be read.
    """
    manifest = checkpoint.read_manifest(folder)
    manifest = manifest._replace(metrics=manifest.metrics | {EVALUATION: evaluation.to_json()})
    picture = folder / FAILURES_FILE
    picture.parent.mkdir(exist_ok=True)
    checkpoint.write_atomic(picture, figures.encode_png(figures.grid(failures, COLUMNS)))
    checkpoint.write_manifest(folder, manifest)
    checkpoint.write_atomic(folder / CARD_FILE, card.write(manifest, evaluation).encode())


def compare(folder: Path, evaluation: Evaluation) -> str:
    """Compare `evaluation` with the one in the manifest of `folder`, and return the result as a sentence.

    The sentence also states if the numbers of threads differ. Raises NotReproduced, with the first differences, if a
    number differs, and CheckpointError if the manifest cannot be read.
    """
    published = checkpoint.read_manifest(folder).metrics.get(EVALUATION)
    if published is None:
        return f"{folder} has no evaluation yet; write one with: python -m training evaluate {folder} --write"
    expected = Evaluation.from_json(published)
    threads = ""
    if expected.threads not in (None, evaluation.threads):
        threads = (
            f" The card was measured with --threads {expected.threads}, and this evaluation with {evaluation.threads}. "
            "The last digits depend on the number of threads."
        )
    unequal = differences(tables(evaluation), tables(expected))
    if unequal:
        listed = "; ".join(unequal[:MAX_LISTED]) + ("; ..." if len(unequal) > MAX_LISTED else "")
        raise NotReproduced(
            f"the card in {folder} is not reproduced: {len(unequal)} numbers differ; {listed}.{threads}"
        )
    return (
        f"the card in {folder} is reproduced: no number differs by more than one in its last digit, and no accuracy of "
        f"newly trained classifiers by more than its interval.{threads}"
    )
