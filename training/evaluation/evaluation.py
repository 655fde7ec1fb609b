"""What an evaluation found, as one value that survives JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from service.errors import CheckpointError
from training.evaluation.digits import DigitAgreement
from training.evaluation.intervals import Estimate


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
