"""Are samples nearer to the training images than new real images are?

If the model copied, they would be. Test images, which nobody learned from, show how near is to be expected.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

CLOSE = 0.01
Z95 = 1.959964  # the normal distribution's 97.5 % quantile


class Memorisation(NamedTuple):
    """Distances of samples to their nearest training images beside those of test images."""

    median_ratio: float
    """Median of the samples' distances over that of the test images'; below 1, samples are nearer."""
    share_close: float
    """Share of the samples nearer than all but 1 % of the test images; 0.01 is to be expected."""
    auc: float
    """Probability that a sample is farther than a test image, ties counted half; 0.5 where they are the same."""
    auc_error: float
    """Half the width of its 95 % interval, the chance in both sets counted."""


def memorisation(samples: Tensor, test: Tensor) -> Memorisation:
    """Compare distances to the nearest training image, (N,) of samples and (M,) of test images, N and M at least 2.

    The AUC is the Mann-Whitney statistic over N·M, and its variance that of DeLong, DeLong and Clarke-Pearson (1988).
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
    """For each value the share of `others` below it, those equal to it counted half."""
    ordered = others.sort().values
    below, up_to = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (below + up_to).double() / (2 * len(others))
