"""Digits on request: whether images for `digit=k` show k, and whether they have the variety of k."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from training.evaluation.classifier import Predictions
from training.evaluation.fidelity import DENSITY_NEIGHBOURS
from training.evaluation.neighbours import balls, nearest_squared_distances


class DigitAgreement(NamedTuple):
    """The measurements of one evaluator for images of one requested digit."""

    agreement: float
    """Fraction of the images that the evaluator classifies as that digit."""
    coverage_ratio: float | None
    """Coverage of the digit's test images, divided by the coverage of equally many plain samples of that class. None if
    the latter is 0 or there are no such samples."""


def check_digit(digit: int, drawn: Predictions, plain: Predictions, test_features: Tensor) -> DigitAgreement:
    """Compare images requested as `digit` with plain samples; `test_features` (M, F) are of that digit's test images.

    Coverage is that of `density_coverage` within the class, for equally many images on both sides.
    """
    of_digit = plain.features[plain.classes == digit]
    count = min(len(of_digit), len(drawn.features))
    centre = test_features.mean(0)
    real = balls(test_features - centre, min(DENSITY_NEIGHBOURS, len(test_features) - 1))

    def coverage(features: Tensor) -> float:
        squares = nearest_squared_distances(real.centres, features[:count] - centre)
        return float((squares <= real.squared_radii).double().mean())

    plain_coverage = coverage(of_digit) if count else 0.0
    return DigitAgreement(
        agreement=float((drawn.classes == digit).double().mean()),
        coverage_ratio=coverage(drawn.features) / plain_coverage if plain_coverage else None,
    )


def count_distinct(images: Tensor) -> int:
    """The number of different images among (N, 1, H, W) uint8."""
    return len(torch.unique(images.flatten(1), dim=0))
