"""Samples on request: does `digit=k` draw k, and all the kinds of k there are?"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from training.evaluation.classifier import Reading
from training.evaluation.fidelity import DENSITY_NEIGHBOURS
from training.evaluation.neighbours import balls, nearest


class DigitAgreement(NamedTuple):
    """Of images that were asked to be one digit, in the eyes of one evaluator."""

    agreement: float
    """Share of the images that it calls that digit."""
    coverage_ratio: float | None
    """Coverage of the digit's test images, over that by as many unconditional samples which it calls the digit; None
    when those cover nothing, or there are none."""


def check_digit(digit: int, drawn: Reading, plain: Reading, test_features: Tensor) -> DigitAgreement:
    """Judge images drawn for `digit` beside unconditional samples, by the features (M, F) of that digit's test images.

    Coverage is that of fidelity.py within the class, at an equal number of images on both sides.
    """
    of_digit = plain.features[plain.classes == digit]
    count = min(len(of_digit), len(drawn.features))
    centre = test_features.mean(0)
    real = balls(test_features - centre, min(DENSITY_NEIGHBOURS, len(test_features) - 1))

    def coverage(features: Tensor) -> float:
        return float((nearest(real.centres, features[:count] - centre) <= real.squared_radii).double().mean())

    ordinary = coverage(of_digit) if count else 0.0
    return DigitAgreement(
        agreement=float((drawn.classes == digit).double().mean()),
        coverage_ratio=coverage(drawn.features) / ordinary if ordinary else None,
    )


def count_distinct(images: Tensor) -> int:
    """How many different images there are among (N, 1, H, W) uint8."""
    return len(torch.unique(images.flatten(1), dim=0))
