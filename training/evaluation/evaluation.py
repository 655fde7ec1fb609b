"""The results of an evaluation, as one value that can be written to JSON and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, NamedTuple

from scipy.stats import t

from service.errors import CheckpointError
from training.evaluation.controls import CONTROLS
from training.evaluation.digits import DigitAgreement
from training.evaluation.fitting import FitSettings
from training.evaluation.metrics import METRICS

CONFIDENCE = 0.95


@dataclass(frozen=True)
class EvaluationSettings:
    """The numbers of samples and seeds. There are never more samples than test images."""

    samples: int = 10_000
    """Number of samples in each set."""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Seeds of the sets of samples, at least two. The sets of training images use the same seeds."""
    student: FitSettings = field(default_factory=lambda: FitSettings(epochs=8))
    """Settings of the classifiers that learn from samples alone, or from equally many real images."""
    digit_seeds: int = 1000
    """Number of images of each requested digit, one for each seed from 0."""
    failures: int = 50
    """Number of samples in the picture of failures."""


class Estimate(NamedTuple):
    """A mean, and half the width of its 95 % confidence interval."""

    mean: float
    error: float


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of n independent values, n at least 2, ± t · s/√n with Student's t (Student, 1908)."""
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return Estimate(fmean(values), quantile * stdev(values) / math.sqrt(len(values)))


class Judge(NamedTuple):
    """One evaluator, with its training settings and its accuracy."""

    sha256: str
    seed: int
    epochs: int
    features: int
    """Dimension of its features."""
    validation_accuracy: float
    test_accuracy: float


class Row(NamedTuple):
    """The results of one sampler."""

    metrics: dict[str, dict[str, Estimate]]
    """By evaluator and metric, over all seeds."""
    class_histogram: list[int]
    """Number of samples of all seeds in each class, (10,), by the mean probabilities of all evaluators."""
    milliseconds: float
    """Processor time for each image of a large set, on the machine of the evaluation."""


class DigitRow(NamedTuple):
    """The results for one requested digit, over many seeds."""

    images: int
    distinct: int
    evaluators: dict[str, DigitAgreement]


class Evaluation(NamedTuple):
    """All measurements of one checkpoint. The field names are the keys in the manifest."""

    samples: int
    """Number of samples in each set."""
    seeds: list[int]
    threads: int | None
    """Number of torch threads, on which the last digits depend. None in evaluations of earlier versions."""
    judges: dict[str, Judge]
    floor: dict[str, dict[str, Estimate]]
    """Metrics of random training images in place of samples, by evaluator and metric: the scores of a perfect model."""
    held_out: dict[str, dict[str, float]]
    """The same for one set of training images that the evaluators did not learn from. Empty if there are too few."""
    rows: dict[str, Row]
    """By sampler."""
    controls: dict[str, dict[str, dict[str, float]]]
    """By control, evaluator and metric. NO_FAULT has the reference; evaluations of earlier versions lack it."""
    memorisation: dict[str, dict[str, Estimate]]
    """Memorisation of plain samples, for distances in pixels and in the features of each evaluator."""
    copies: dict[str, float]
    """Memorisation, in pixels, of the control `copy_some`."""
    classification: dict[str, Estimate]
    """Accuracy on test images of classifiers that learned from `samples` alone, and from equally many `real` images."""
    digits: dict[str, DigitRow]
    """By requested digit."""

    def to_json(self) -> dict[str, Any]:
        """Return the evaluation as JSON values."""
        values = self._asdict()
        for name in ("judges", "rows"):
            values[name] = {key: part._asdict() for key, part in values[name].items()}
        values["digits"] = {
            digit: row._asdict() | {"evaluators": {name: part._asdict() for name, part in row.evaluators.items()}}
            for digit, row in self.digits.items()
        }
        # JSON turns estimates into lists of two numbers.
        found: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
        return found

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Evaluation:
        """Read an evaluation that `to_json` wrote.

        Raises CheckpointError if `values` are not one, or if its metrics or controls are not those of this version.
        """
        try:
            found = cls(
                samples=values["samples"],
                seeds=values["seeds"],
                threads=values.get("threads"),
                judges={name: Judge(**judge) for name, judge in values["judges"].items()},
                floor=_estimates(values["floor"]),
                held_out=values["held_out"],
                rows={
                    name: Row(_estimates(row["metrics"]), row["class_histogram"], row["milliseconds"])
                    for name, row in values["rows"].items()
                },
                controls=values["controls"],
                memorisation=_estimates(values["memorisation"]),
                copies=values["copies"],
                classification={name: Estimate(*pair) for name, pair in values["classification"].items()},
                digits={
                    digit: DigitRow(
                        row["images"],
                        row["distinct"],
                        {name: DigitAgreement(**part) for name, part in row["evaluators"].items()},
                    )
                    for digit, row in values["digits"].items()
                },
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"the manifest's evaluation cannot be read: {error!r}; write a new one with: "
                "python -m training evaluate --write"
            ) from error
        found._check_names()
        return found

    def _check_names(self) -> None:
        """Raise CheckpointError unless all judges have the metrics of this version, in all controls."""
        by_judge: list[Mapping[str, Mapping[str, object]]] = [
            self.floor,
            *(row.metrics for row in self.rows.values()),
            *self.controls.values(),
        ]
        by_judge += [self.held_out] if self.held_out else []
        if not self.controls.keys() >= CONTROLS.keys() or any(
            part.keys() != self.judges.keys() or any(names.keys() != METRICS.keys() for names in part.values())
            for part in by_judge
        ):
            raise CheckpointError(
                "the manifest's evaluation was written by another version: it has other metrics or controls; "
                "write a new one with: python -m training evaluate --write"
            )


def _estimates(values: Mapping[str, Mapping[str, list[float]]]) -> dict[str, dict[str, Estimate]]:
    return {name: {key: Estimate(*pair) for key, pair in part.items()} for name, part in values.items()}
