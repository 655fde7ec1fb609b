"""What an evaluation found, as one value that survives JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, NamedTuple

from scipy.stats import t

from service.errors import CheckpointError
from training.evaluation.digits import DigitAgreement
from training.evaluation.fitting import FitSettings

CONFIDENCE = 0.95


@dataclass(frozen=True)
class EvaluationSettings:
    """How much is measured. On a smaller data set there are fewer samples, as many as there are test images."""

    samples: int = 10_000
    """In each set that is measured."""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Of the sets of samples, at least two; the draws of training images take the same."""
    student: FitSettings = field(default_factory=lambda: FitSettings(epochs=8))
    """How the classifiers learn that see samples alone, or as many real images."""
    digit_seeds: int = 1000
    """Seeds that draw one image each of a digit asked for."""
    failures: int = 50
    """Samples pictured because they are the hardest to tell."""


class Estimate(NamedTuple):
    """`mean` ± `error`, a confidence interval."""

    mean: float
    error: float


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of n independent values, n at least 2, with its 95 % interval: t · s / √n (Student, 1908)."""
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return Estimate(fmean(values), quantile * stdev(values) / math.sqrt(len(values)))


class Judge(NamedTuple):
    """One evaluator, and how good it is itself."""

    sha256: str
    seed: int
    epochs: int
    features: int
    """Dimension of the features that distances are taken between."""
    validation_accuracy: float
    test_accuracy: float


class Row(NamedTuple):
    """One sampler."""

    metrics: dict[str, dict[str, Estimate]]
    """By evaluator and metric, over the seeds."""
    class_histogram: list[int]
    """Samples of all seeds by the class that the evaluators together take for the most probable, (10,)."""
    milliseconds: float
    """To draw one image of many, on the machine that measured."""


class DigitRow(NamedTuple):
    """Images of one digit, asked for with many seeds."""

    images: int
    distinct: int
    evaluators: dict[str, DigitAgreement]


class Evaluation(NamedTuple):
    """Everything that was measured of one checkpoint."""

    samples: int
    """In each set."""
    seeds: list[int]
    threads: int | None
    """Of torch, whose numbers hold for one count; None where an earlier version did not note it."""
    judges: dict[str, Judge]
    floor: dict[str, dict[str, Estimate]]
    """Random training images in the place of samples, by evaluator and metric: what a perfect model would score."""
    held_out: dict[str, dict[str, float]]
    """The same, once, of training images that the evaluators did not learn from; empty where there are too few."""
    rows: dict[str, Row]
    """By sampler."""
    controls: dict[str, dict[str, dict[str, float]]]
    """By control, evaluator and metric; under SOUND what they are compared with, where an earlier version noted it."""
    memorisation: dict[str, dict[str, Estimate]]
    """Of plain samples: in pixels, and by evaluator in its features."""
    copies: dict[str, float]
    """Memorisation, in pixels, of test images a tenth of which is replaced by training images."""
    classification: dict[str, Estimate]
    """Accuracy on the test images of classifiers that learned from `samples` alone, and from as many `real` images."""
    digits: dict[str, DigitRow]
    """By digit asked for."""

    def to_json(self) -> dict[str, Any]:
        """The evaluation as JSON values."""
        values = self._asdict()
        for name in ("judges", "rows"):
            values[name] = {key: part._asdict() for key, part in values[name].items()}
        values["digits"] = {
            digit: row._asdict() | {"evaluators": {name: part._asdict() for name, part in row.evaluators.items()}}
            for digit, row in self.digits.items()
        }
        # Estimates become pairs, as all other tuples.
        found: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
        return found

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Evaluation:
        """The evaluation that `to_json` wrote. Raises CheckpointError when it is none."""
        try:
            return cls(
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
                f"the manifest's evaluation cannot be read: {error!r}; write it anew with: "
                "python -m training evaluate --write"
            ) from error


def _estimates(values: Mapping[str, Mapping[str, list[float]]]) -> dict[str, dict[str, Estimate]]:
    return {name: {key: Estimate(*pair) for key, pair in part.items()} for name, part in values.items()}
