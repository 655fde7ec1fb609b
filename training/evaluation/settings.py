"""All settings of an evaluation as one frozen value."""

from __future__ import annotations

from dataclasses import dataclass, field

from training.evaluation.fitting import FitSettings


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
