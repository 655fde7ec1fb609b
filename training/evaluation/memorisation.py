"""Memorisation: whether samples are closer to the training images than new real images are.

Samples of a model that copies would be closer. Test images, which the model did not learn from, give the reference.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

CLOSE = 0.01
Z95 = 1.959964  # 97.5 % quantile of the standard normal distribution


class Memorisation(NamedTuple):
    """Distances of samples to their nearest training images, compared with those of test images."""

    median_ratio: float
    """Median distance of the samples, divided by that of the test images; below 1 if samples are closer."""
    share_close: float
    """Fraction of the samples that are closer than all but 1 % of the test images; 0.01 is expected."""
    auc: float
    """Probability that a sample is farther than a test image, with ties counted half; 0.5 for equal distributions."""
    auc_error: float
    """Half the width of the AUC's 95 % interval. It includes the randomness of both sets."""


def memorisation(samples: Tensor, test: Tensor) -> Memorisation:
    """Compare the distances to the nearest training image of samples (N,) and of test images (M,), N and M at least 2.

    The AUC is the Mann-Whitney statistic divided by N·M. Its variance is that of DeLong, DeLong and Clarke-Pearson
    (1988).
    """
    samples, test = samples.double(), test.double()
    above_test, above_samples = _share_below(samples, test), _share_below(test, samples)
    variance = float(above_test.var() / len(samples) + above_samples.var() / len(test))
    return Memorisation(
        median_ratio=float(samples.median() / test.median()),
        share_close=float((samples < test.quantile(CLOSE)).double().mean()),
        auc=float(above_test.mean()),
        auc_error=Z95 * math.sqrt(variance),
    )


def _share_below(values: Tensor, others: Tensor) -> Tensor:
    """For each value, the fraction of `others` below it, with equal ones counted half."""
    ordered = others.sort().values
    below, up_to = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (below + up_to).double() / (2 * len(others))
